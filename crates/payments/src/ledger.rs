//! Approved payments by order, of which the oldest are forgotten first.

use std::{
    collections::{HashMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

/// An approved payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Payment {
    pub(crate) id: i64,
    pub(crate) order_id: i64,
    pub(crate) amount_cents: i64,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Approved,
}

/// What the ledger says to a payment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Entered now, or earlier with the same amount.
    Paid(Payment),
    /// The order was paid earlier, with another amount.
    OtherAmount(Payment),
}

pub(crate) struct Ledger {
    by_order: HashMap<i64, Payment>,
    oldest_first: VecDeque<i64>,
    capacity: usize,
    next_id: i64,
}

impl Ledger {
    /// An empty ledger that remembers `capacity` payments.
    pub(crate) fn new(capacity: usize) -> Self {
        // Ids go on from the clock (microseconds), so that those of an earlier run do not come back.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            by_order: HashMap::new(),
            oldest_first: VecDeque::new(),
            capacity,
            next_id: i64::try_from(now.as_micros()).unwrap_or_default(),
        }
    }

    /// The payment of an order.
    pub(crate) fn find(&self, order_id: i64) -> Option<Payment> {
        self.by_order.get(&order_id).copied()
    }

    /// Enters a payment, once per order.
    pub(crate) fn enter(&mut self, order_id: i64, amount_cents: i64) -> Entry {
        if let Some(payment) = self.find(order_id) {
            return match payment.amount_cents == amount_cents {
                true => Entry::Paid(payment),
                false => Entry::OtherAmount(payment),
            };
        }
        if self.by_order.len() == self.capacity
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_order.remove(&oldest);
        }
        let payment = Payment {
            id: self.next_id,
            order_id,
            amount_cents,
            status: Status::Approved,
        };
        self.next_id += 1;
        self.by_order.insert(order_id, payment);
        self.oldest_first.push_back(order_id);
        Entry::Paid(payment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(entry: Entry) -> Payment {
        match entry {
            Entry::Paid(payment) => payment,
            Entry::OtherAmount(payment) => panic!("already paid: {payment:?}"),
        }
    }

    #[test]
    fn an_order_is_paid_once() {
        let mut ledger = Ledger::new(10);
        let first = paid(ledger.enter(7, 100));
        assert_eq!(paid(ledger.enter(7, 100)), first);
        assert_eq!(ledger.enter(7, 200), Entry::OtherAmount(first));
        assert_ne!(paid(ledger.enter(8, 100)).id, first.id);
    }

    #[test]
    fn the_oldest_payment_is_forgotten_when_full() {
        let mut ledger = Ledger::new(2);
        let [first, second, _third] = [1, 2, 3].map(|order| paid(ledger.enter(order, 100)));
        assert_eq!(ledger.by_order.len(), 2);
        assert_eq!(paid(ledger.enter(2, 100)), second);
        assert_ne!(
            paid(ledger.enter(1, 100)),
            first,
            "forgotten, so entered anew"
        );
        assert_eq!((ledger.by_order.len(), ledger.oldest_first.len()), (2, 2));
    }
}
