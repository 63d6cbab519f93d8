//! The store against a model of it that fits on a page: any sequence of operations, either database.

use std::collections::BTreeMap;
use std::time::Duration;

use flask_api::order::{Failure, OrderStatus};
use flask_api::store::{PageRequest, Payment, Placed, Store, StoreError};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::runtime::Handle;

use crate::fixture::{Aside, Fixture, on_both_databases};
use crate::store::cart;

on_both_databases! { it_does_what_the_model_does }

/// Units of each product at the start: few, so that they run out.
const UNITS: i64 = 12;

#[derive(Debug, Clone)]
enum Step {
    Place {
        lines: Vec<(i64, i64)>,
        key: Option<u8>,
    },
    Settle(usize, Payment),
    Cancel(usize),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    // Product 99 does not exist; order 20 mostly neither.
    let line = (prop_oneof![9 => 1..=3_i64, 1 => Just(99)], 1..=6_i64);
    let payment = prop_oneof![
        Just(Payment::Approved),
        Just(Payment::Declined),
        Just(Payment::Unavailable)
    ];
    prop_oneof![
        5 => (prop::collection::vec(line, 1..4), prop::option::of(0..3_u8))
            .prop_map(|(lines, key)| Step::Place { lines, key }),
        4 => (0..20_usize, payment).prop_map(|(nth, payment)| Step::Settle(nth, payment)),
        2 => (0..20_usize).prop_map(Step::Cancel),
        1 => Just(Step::Sweep),
    ]
}

/// What became of a step, in words that the model and the store share.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Reserved(usize),
    Known(usize, State),
    Settled(State),
    Cancelled,
    Swept(Vec<usize>),
    UnknownProducts,
    OutOfStock(Vec<(i64, i64)>),
    KeyReused,
    UnknownOrder,
    NotCancellable(OrderStatus),
}

type State = (OrderStatus, Option<Failure>);

#[derive(Debug)]
struct ModelOrder {
    lines: BTreeMap<i64, i64>,
    key: Option<u8>,
    state: State,
}

#[derive(Debug)]
struct Model {
    stock: BTreeMap<i64, i64>,
    orders: Vec<ModelOrder>,
}

impl Model {
    fn new() -> Self {
        Self {
            stock: (1..=3).map(|id| (id, UNITS)).collect(),
            orders: Vec::new(),
        }
    }

    fn take(&mut self, lines: &BTreeMap<i64, i64>) -> Result<(), Outcome> {
        if lines.keys().any(|id| !self.stock.contains_key(id)) {
            return Err(Outcome::UnknownProducts);
        }
        let short: Vec<_> = lines
            .iter()
            .filter(|(id, quantity)| self.stock[id] < **quantity)
            .map(|(id, _)| (*id, self.stock[id]))
            .collect();
        if !short.is_empty() {
            return Err(Outcome::OutOfStock(short));
        }
        for (id, quantity) in lines {
            *self.stock.get_mut(id).unwrap() -= quantity;
        }
        Ok(())
    }

    fn end(&mut self, nth: usize, state: State) {
        self.orders[nth].state = state;
        for (id, quantity) in &self.orders[nth].lines {
            *self.stock.get_mut(id).unwrap() += quantity;
        }
    }

    fn apply(&mut self, step: &Step) -> Outcome {
        const PENDING: State = (OrderStatus::Pending, None);
        const UNAVAILABLE: State = (OrderStatus::Failed, Some(Failure::PaymentUnavailable));
        match step {
            Step::Place { lines, key } => {
                let mut wanted = BTreeMap::new();
                for (id, quantity) in lines {
                    *wanted.entry(*id).or_insert(0) += quantity;
                }
                let known = self
                    .orders
                    .iter()
                    .position(|order| key.is_some() && order.key == *key);
                if let Some(nth) = known {
                    if self.orders[nth].lines != wanted {
                        return Outcome::KeyReused;
                    }
                    if self.orders[nth].state != UNAVAILABLE {
                        return Outcome::Known(nth, self.orders[nth].state);
                    }
                }
                if let Err(refused) = self.take(&wanted) {
                    return refused;
                }
                let nth = known.unwrap_or_else(|| {
                    self.orders.push(ModelOrder {
                        lines: wanted,
                        key: *key,
                        state: PENDING,
                    });
                    self.orders.len() - 1
                });
                self.orders[nth].state = PENDING;
                Outcome::Reserved(nth)
            }
            Step::Settle(nth, payment) => {
                let Some(order) = self.orders.get_mut(*nth) else {
                    return Outcome::UnknownOrder;
                };
                if order.state == PENDING {
                    match payment {
                        Payment::Approved => order.state = (OrderStatus::Paid, None),
                        Payment::Declined => {
                            self.end(*nth, (OrderStatus::Failed, Some(Failure::PaymentDeclined)));
                        }
                        Payment::Unavailable => self.end(*nth, UNAVAILABLE),
                    }
                }
                Outcome::Settled(self.orders[*nth].state)
            }
            Step::Cancel(nth) => match self.orders.get(*nth).map(|order| order.state.0) {
                None => Outcome::UnknownOrder,
                Some(OrderStatus::Pending | OrderStatus::Paid) => {
                    self.end(*nth, (OrderStatus::Cancelled, None));
                    Outcome::Cancelled
                }
                Some(status) => Outcome::NotCancellable(status),
            },
            Step::Sweep => {
                let pending: Vec<usize> = (0..self.orders.len())
                    .filter(|&nth| self.orders[nth].state == PENDING)
                    .collect();
                for &nth in &pending {
                    self.end(nth, UNAVAILABLE);
                }
                Outcome::Swept(pending)
            }
        }
    }
}

/// The ids of the orders, in the order in which they were placed.
async fn apply(store: &dyn Store, ids: &mut Vec<i64>, step: &Step) -> Outcome {
    let id = |ids: &[i64], nth: usize| ids.get(nth).copied().unwrap_or(i64::MAX);
    let nth = |ids: &[i64], id: i64| ids.iter().position(|known| *known == id);
    let result = match step {
        Step::Place { lines, key } => {
            let key = key.map(|key| format!("key {key}"));
            match store.place(&cart(lines), key.as_deref()).await {
                Ok(Placed::Reserved(order)) => {
                    let nth = nth(ids, order.id).unwrap_or_else(|| {
                        ids.push(order.id);
                        ids.len() - 1
                    });
                    Ok(Outcome::Reserved(nth))
                }
                Ok(Placed::Known(order)) => Ok(Outcome::Known(
                    nth(ids, order.id).unwrap(),
                    (order.status, order.failure),
                )),
                Err(error) => Err(error),
            }
        }
        Step::Settle(nth, payment) => store
            .settle(id(ids, *nth), *payment)
            .await
            .map(|order| Outcome::Settled((order.status, order.failure))),
        Step::Cancel(nth) => store
            .cancel(id(ids, *nth))
            .await
            .map(|_| Outcome::Cancelled),
        Step::Sweep => {
            let deadline = Timestamp::now() + Duration::from_secs(60);
            store.fail_abandoned(deadline, &[]).await.map(|orders| {
                Outcome::Swept(
                    orders
                        .iter()
                        .map(|order| nth(ids, order.id).unwrap())
                        .collect(),
                )
            })
        }
    };
    match result {
        Ok(outcome) => outcome,
        Err(StoreError::UnknownProducts(_)) => Outcome::UnknownProducts,
        Err(StoreError::OutOfStock(short)) => Outcome::OutOfStock(
            short
                .iter()
                .map(|short| (short.product_id, short.available))
                .collect(),
        ),
        Err(StoreError::KeyReused) => Outcome::KeyReused,
        Err(StoreError::UnknownOrder) => Outcome::UnknownOrder,
        Err(StoreError::NotCancellable(status)) => Outcome::NotCancellable(status),
        Err(error) => panic!("{error:?}"),
    }
}

async fn check(store: &dyn Store, aside: &Aside, steps: &[Step]) -> Result<(), TestCaseError> {
    aside
        .execute(
            "DELETE FROM order_items; DELETE FROM orders; \
             UPDATE products SET stock = CASE WHEN id <= 3 THEN 12 ELSE 0 END",
        )
        .await;
    let mut model = Model::new();
    let mut ids = Vec::new();
    for step in steps {
        let expected = model.apply(step);
        prop_assert_eq!(apply(store, &mut ids, step).await, expected, "{:?}", step);
        let (on_sale, held) = aside.units().await;
        prop_assert_eq!(on_sale + held, 3 * UNITS, "units are neither lost nor made");
        prop_assert_eq!(on_sale, model.stock.values().sum::<i64>());
    }
    let page = PageRequest {
        limit: 3,
        after: None,
    };
    for product in store.products(page).await.unwrap().items {
        prop_assert_eq!(product.stock, model.stock[&product.id]);
    }
    for (nth, order) in model.orders.iter().enumerate() {
        let stored = store.order(ids[nth]).await.unwrap().unwrap();
        prop_assert_eq!((stored.status, stored.failure), order.state);
        let total: i64 = stored
            .items
            .iter()
            .map(|item| item.quantity * item.unit_price_cents)
            .sum();
        prop_assert_eq!(stored.total_cents, total);
    }
    Ok(())
}

async fn it_does_what_the_model_does(fixture: Fixture) {
    let store = fixture.store().await;
    let aside = fixture.aside().await;
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let test = |steps: Vec<Step>| {
        tokio::task::block_in_place(|| Handle::current().block_on(check(&*store, &aside, &steps)))
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..30), test)
        .unwrap();
}
