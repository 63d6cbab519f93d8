//! What the shop is about: products, orders, and the rules an order has to keep.

use std::collections::BTreeMap;
use std::fmt;

use garde::Validate;
use jiff::Timestamp;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use service::FieldError;
use utoipa::ToSchema;

/// Most units of one product in one order.
pub const MAX_QUANTITY: i64 = 1_000;

/// Something to sell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow, ToSchema)]
pub struct Product {
    /// Identifies the product.
    pub id: i64,
    /// Name, as shown to a customer.
    pub name: String,
    /// Price of one unit, in cents.
    pub price_cents: i64,
    /// Units that can still be ordered; reserved units are no longer among them.
    pub stock: i64,
}

/// Where an order stands.
///
/// `pending -> paid | failed | cancelled`, `paid -> cancelled`; a `failed` order whose payment
/// could not be asked for goes back to `pending` when its customer retries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Stock is reserved, payment is being asked for.
    Pending,
    /// Paid for.
    Paid,
    /// Not paid for; its stock is on sale again.
    Failed,
    /// Called off by the customer; its stock is on sale again.
    Cancelled,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Paid, Self::Failed, Self::Cancelled];

    /// As in JSON, in the database and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// Why an order failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The payment service said no: final.
    PaymentDeclined,
    /// The payment service gave no answer: worth a retry.
    PaymentUnavailable,
}

impl Failure {
    /// As in JSON, in the database and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PaymentDeclined => "payment_declined",
            Self::PaymentUnavailable => "payment_unavailable",
        }
    }

    /// The failure of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::PaymentDeclined, Self::PaymentUnavailable]
            .into_iter()
            .find(|failure| failure.as_str() == name)
    }
}

/// An order as placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Identifies the order; a later order has a higher one.
    pub id: i64,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it failed, if it did.
    #[schema(required)]
    pub failure: Option<Failure>,
    /// Sum of all items, in cents.
    pub total_cents: i64,
    /// What was ordered, by product, each product once.
    pub items: Vec<OrderItem>,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
}

impl Order {
    /// The payment service could not be asked: the same order may be tried again.
    pub fn is_retryable(&self) -> bool {
        self.failure == Some(Failure::PaymentUnavailable)
    }

    /// Whether this order is what `cart` asks for.
    pub fn is_for(&self, cart: &Cart) -> bool {
        self.items
            .iter()
            .map(|item| (item.product_id, item.quantity))
            .eq(cart.lines())
    }
}

/// One product of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderItem {
    /// Which product.
    pub product_id: i64,
    /// How many units.
    pub quantity: i64,
    /// Price of one unit when the order was placed, in cents.
    pub unit_price_cents: i64,
}

/// What a customer sends to place an order.
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// 1 to 50 lines. Lines of the same product count as one.
    #[garde(length(min = 1, max = 50), dive)]
    #[schema(min_items = 1, max_items = 50)]
    pub items: Vec<OrderLine>,
}

/// One line of an [`OrderRequest`].
#[derive(Debug, Clone, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderLine {
    /// Which product.
    #[garde(skip)]
    #[serde(deserialize_with = "whole_number")]
    pub product_id: i64,
    /// 1 to 1000 units, also when several lines of the product are added up.
    #[garde(range(min = 1, max = MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 1000)]
    #[serde(deserialize_with = "whole_number")]
    pub quantity: i64,
}

/// A whole number, also one that is written with a fraction of nothing: to JSON Schema, and to clients
/// that know one kind of number only, `2.0` is an integer.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct WholeNumber;

    impl Visitor<'_> for WholeNumber {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number of 64 bits")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<i64, E> {
            // Up to 2^53 each whole number has a float of its own.
            const EXACT: f64 = 9_007_199_254_740_992.0;
            if number.fract() == 0.0 && number.abs() <= EXACT {
                Ok(number as i64)
            } else {
                Err(E::invalid_value(Unexpected::Float(number), &self))
            }
        }
    }

    deserializer.deserialize_any(WholeNumber)
}

/// A valid order request: each product once, in ascending order, quantities within bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cart {
    quantities: BTreeMap<i64, i64>,
}

impl Cart {
    /// Product and quantity of each line.
    pub fn lines(&self) -> impl Iterator<Item = (i64, i64)> {
        self.quantities
            .iter()
            .map(|(&product_id, &quantity)| (product_id, quantity))
    }
}

impl TryFrom<&OrderRequest> for Cart {
    type Error = Vec<FieldError>;

    fn try_from(request: &OrderRequest) -> Result<Self, Vec<FieldError>> {
        request.validate().map_err(|report| {
            report
                .iter()
                .map(|(path, error)| FieldError::body(&path.to_string(), error.to_string()))
                .collect::<Vec<_>>()
        })?;
        let mut quantities = BTreeMap::new();
        let mut errors = Vec::new();
        for (index, line) in request.items.iter().enumerate() {
            let sum = quantities.entry(line.product_id).or_insert(0);
            // Cannot overflow: at most 50 lines of at most 1000 each.
            *sum += line.quantity;
            if *sum > MAX_QUANTITY {
                errors.push(FieldError::body(
                    &format!("items[{index}].quantity"),
                    format!(
                        "all lines of product {} together exceed {MAX_QUANTITY}",
                        line.product_id
                    ),
                ));
            }
        }
        if errors.is_empty() {
            Ok(Self { quantities })
        } else {
            Err(errors)
        }
    }
}

/// Sum of unit price times quantity over all items, or nothing when it cannot be represented.
pub fn total_cents(items: &[OrderItem]) -> Option<i64> {
    items.iter().try_fold(0_i64, |sum, item| {
        sum.checked_add(item.unit_price_cents.checked_mul(item.quantity)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(i64, i64)]) -> OrderRequest {
        let line = |&(product_id, quantity)| OrderLine {
            product_id,
            quantity,
        };
        OrderRequest {
            items: lines.iter().map(line).collect(),
        }
    }

    fn fields(lines: &[(i64, i64)]) -> Vec<String> {
        Cart::try_from(&request(lines))
            .expect_err("invalid")
            .into_iter()
            .map(|error| error.field)
            .collect()
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let quantity = |text: &str| {
            let line = format!(r#"{{"product_id": 1, "quantity": {text}}}"#);
            serde_json::from_str(&line).map(|line: OrderLine| line.quantity)
        };
        for (text, whole) in [("2", 2), ("2.0", 2), ("2e2", 200), ("-0.0", 0), ("-7", -7)] {
            assert_eq!(quantity(text).ok(), Some(whole), "{text}");
        }
        for text in [
            "2.5",
            "1e300",
            "18446744073709551615",
            "\"2\"",
            "null",
            "true",
        ] {
            let reason = quantity(text).expect_err(text).to_string();
            assert!(reason.contains("a whole number of 64 bits"), "{reason}");
        }
    }

    #[test]
    fn lines_of_one_product_are_merged() {
        let cart = Cart::try_from(&request(&[(2, 1), (1, 5), (2, 3)])).expect("valid");
        assert_eq!(cart.lines().collect::<Vec<_>>(), [(1, 5), (2, 4)]);
    }

    #[test]
    fn bounds_are_kept_and_named() {
        assert_eq!(fields(&[]), ["items"]);
        assert_eq!(fields(&[(1, 1); 51]), ["items"]);
        assert_eq!(fields(&[(1, 1), (2, 0)]), ["items[1].quantity"]);
        assert_eq!(fields(&[(1, MAX_QUANTITY + 1)]), ["items[0].quantity"]);
        assert_eq!(fields(&[(1, -1)]), ["items[0].quantity"]);
        assert_eq!(fields(&[(1, 600), (2, 1), (1, 401)]), ["items[2].quantity"]);
        assert!(Cart::try_from(&request(&[(1, MAX_QUANTITY); 1])).is_ok());
        assert!(Cart::try_from(&request(&[(1, 20); 50])).is_ok());
    }

    #[test]
    fn a_total_never_wraps() {
        let item = |unit_price_cents, quantity| OrderItem {
            product_id: 1,
            quantity,
            unit_price_cents,
        };
        assert_eq!(total_cents(&[item(250, 2), item(99, 1)]), Some(599));
        assert_eq!(total_cents(&[item(i64::MAX, 2)]), None);
        assert_eq!(total_cents(&[item(i64::MAX, 1), item(1, 1)]), None);
    }
}
