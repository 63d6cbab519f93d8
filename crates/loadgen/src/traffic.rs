//! *What* to send, one request for each start.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use reqwest::{Method, Url};
use serde_json::Value;

use crate::journey::{Placed, Shop};

/// One request, ready to go.
#[derive(Debug)]
pub struct Shot {
    /// The request's method.
    pub method: Method,
    /// Where it goes.
    pub url: Url,
    /// The route behind the path, when it is known: low in cardinality, fit for the name of a span.
    pub template: Option<&'static str>,
    /// What a POST sends.
    pub order: Option<NewOrder>,
}

/// The body of a POST that places an order, and where its answer is learnt from.
#[derive(Debug)]
pub struct NewOrder {
    /// The JSON body.
    pub body: Value,
    /// The `Idempotency-Key`.
    pub key: String,
    /// Hears of the order, so that later requests can read and cancel it.
    pub placed: Placed,
}

/// What the run sends.
#[derive(Debug)]
pub enum Traffic {
    /// GET each URL in turn.
    Urls(Vec<Url>),
    /// The mix of requests that customers of the demo shop make.
    Shop(Box<Shop>),
}

impl Traffic {
    /// The request for the start with this number, which also picks the target.
    pub fn shot(&mut self, number: u64) -> Shot {
        match self {
            Self::Urls(urls) => Shot {
                method: Method::GET,
                url: urls[turn(number, urls.len())].clone(),
                template: None,
                order: None,
            },
            Self::Shop(shop) => shop.shot(number),
        }
    }
}

/// Whose turn it is among so many.
pub fn turn(number: u64, of: usize) -> usize {
    (number % of as u64) as usize
}

/// Chance for one start of a plan: the same for the same seed and number, whatever came before. So a plan can be
/// split among generators.
pub fn numbered(seed: u64, number: u64) -> SmallRng {
    // An odd factor, so that no two numbers meet; seeding scatters them.
    SmallRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
