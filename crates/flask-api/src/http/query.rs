//! The parameters of a list: `?status=&limit=&cursor=`.

use service::FieldError;
use url::form_urlencoded;

use crate::order::OrderStatus;
use crate::store::PageRequest;

/// Items of a page when nothing is said.
pub const DEFAULT_LIMIT: u32 = 20;
/// Most items of a page.
pub const MAX_LIMIT: u32 = 100;

/// What a cursor continues. It holds the id of the last item seen; that is nobody's business, so
/// that another order of items can be encoded one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// The list of products.
    Product,
    /// The list of orders.
    Order,
}

impl Cursor {
    fn prefix(self) -> char {
        match self {
            Self::Product => 'p',
            Self::Order => 'o',
        }
    }

    /// The cursor behind an item.
    pub fn encode(self, id: i64) -> String {
        format!("{}{id:016x}", self.prefix())
    }

    /// The item before; nothing when this service has made no such cursor.
    pub fn decode(self, cursor: &str) -> Option<i64> {
        let id = i64::from_str_radix(cursor.strip_prefix(self.prefix())?, 16).ok()?;
        (self.encode(id) == cursor).then_some(id)
    }
}

/// Which orders the text behind the question mark asks for.
///
/// # Errors
/// Every parameter that is wrong.
pub fn read_orders_query(
    query: &str,
) -> Result<(Option<OrderStatus>, PageRequest), Vec<FieldError>> {
    let mut read = Read::new(query, &["status", "limit", "cursor"]);
    let status = read.parameter("status", "pending, paid, failed or cancelled", |text| {
        OrderStatus::from_name(text)
    });
    let page = read.page(Cursor::Order);
    read.done((status, page))
}

/// Which products the text behind the question mark asks for.
///
/// # Errors
/// Every parameter that is wrong.
pub fn read_products_query(query: &str) -> Result<PageRequest, Vec<FieldError>> {
    let mut read = Read::new(query, &["limit", "cursor"]);
    let page = read.page(Cursor::Product);
    read.done(page)
}

/// Parameters being read, and what was wrong so far.
struct Read {
    given: Vec<(&'static str, String)>,
    errors: Vec<FieldError>,
}

impl Read {
    /// Takes the parameters of these names; others are for somebody else.
    fn new(query: &str, names: &[&'static str]) -> Self {
        let mut read = Self {
            given: Vec::new(),
            errors: Vec::new(),
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(&name) = names.iter().find(|known| **known == name) else {
                continue;
            };
            if read.given.iter().any(|(given, _)| *given == name) {
                if !read.errors.iter().any(|error| error.field == name) {
                    let error = FieldError::parameter(name, "is given more than once");
                    read.errors.push(error);
                }
            } else {
                read.given.push((name, value.into_owned()));
            }
        }
        read
    }

    /// A parameter's value.
    fn parameter<T>(
        &mut self,
        name: &str,
        expected: &str,
        value: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, text) = self.given.iter().find(|(given, _)| *given == name)?;
        let value = value(text);
        if value.is_none() && !self.errors.iter().any(|error| error.field == name) {
            let error = FieldError::parameter(name, format!("has to be {expected}"));
            self.errors.push(error);
        }
        value
    }

    fn page(&mut self, kind: Cursor) -> PageRequest {
        let limit = self.parameter(
            "limit",
            &format!("a number from 1 to {MAX_LIMIT}"),
            |text| {
                let limit = text.parse().ok()?;
                (1..=MAX_LIMIT).contains(&limit).then_some(limit)
            },
        );
        PageRequest {
            limit: limit.unwrap_or(DEFAULT_LIMIT),
            // Empty for the first page, so that a loop over pages can start with it.
            after: self
                .parameter("cursor", "a next_cursor of this list", |text| match text {
                    "" => Some(None),
                    text => kind.decode(text).map(Some),
                })
                .flatten(),
        }
    }

    fn done<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        match self.errors.is_empty() {
            true => Ok(value),
            false => Err(self.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        for id in [0, 1, 4096, i64::MAX] {
            assert_eq!(Cursor::Order.decode(&Cursor::Order.encode(id)), Some(id));
        }
        let foreign = Cursor::Product.encode(1);
        for cursor in [
            "o",
            "o1",
            "1",
            "o-000000000000001",
            "o+000000000000001",
            "o\u{e9}00000000000000",
            &foreign,
        ] {
            assert_eq!(Cursor::Order.decode(cursor), None, "{cursor}");
        }
    }

    #[test]
    fn every_wrong_parameter_is_named_once() {
        let fields = |query| {
            let errors = read_orders_query(query).expect_err(query);
            let fields = errors.into_iter().map(|error| error.field);
            fields.collect::<Vec<_>>()
        };
        assert_eq!(
            fields("cursor=x&limit=0&status=lost"),
            ["status", "limit", "cursor"]
        );
        assert_eq!(fields("limit=1&limit=2&limit=3"), ["limit"]);
        assert_eq!(fields("limit=x&limit=2"), ["limit"]);
        assert_eq!(fields("limit=&status="), ["status", "limit"]);
        let (status, page) = read_orders_query("a=b&cursor=&%ff").expect("fine");
        assert_eq!(
            (status, page.limit, page.after),
            (None, DEFAULT_LIMIT, None)
        );
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_answered_within_bounds(query in ".*", id: i64) {
            if let Ok((_, page)) = read_orders_query(&query) {
                prop_assert!((1..=MAX_LIMIT).contains(&page.limit));
            }
            let _ = read_products_query(&query);
            let query = format!("limit=7&status=paid&cursor={}", Cursor::Order.encode(id));
            match read_orders_query(&query) {
                Ok((status, page)) => {
                    prop_assert_eq!(status, Some(OrderStatus::Paid));
                    prop_assert_eq!((page.limit, page.after), (7, Some(id)));
                }
                // No order has such an id, so no such cursor was ever made.
                Err(_) => prop_assert!(id < 0),
            }
        }
    }
}
