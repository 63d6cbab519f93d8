//! *What* to send, one request for each start.

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
    /// The request for the next start; `turn` goes up by one each time, and picks the target.
    pub fn shot(&mut self, turn: usize) -> Shot {
        match self {
            Self::Urls(urls) => Shot {
                method: Method::GET,
                url: urls[turn % urls.len()].clone(),
                template: None,
                order: None,
            },
            Self::Shop(shop) => shop.shot(turn),
        }
    }
}
