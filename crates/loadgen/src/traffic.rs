//! *What* to send, one request for each start.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::http1;
use crate::outcome::{End, STATUS_CLASSES, status_class};
use crate::transport::Target;

/// As many routes are told apart; what further ones get is counted as [`OTHER_ROUTES`].
const ROUTES: usize = 100;
/// The name of routes beyond the first [`ROUTES`].
const OTHER_ROUTES: &str = "other routes";

/// What a request is to be.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The number of the target it goes to.
    pub target: usize,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The route behind the path, when it is known: low in cardinality, fit for the name of a span.
    pub template: Option<Rc<str>>,
    /// The number of its route among those of the run.
    pub route: usize,
    /// Its fields, but for the host and the length of the body.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Whether the answer is looked into.
    pub keep: bool,
    /// Statuses to expect; any below 500 where there are none.
    pub expect: Option<Rc<[u16]>>,
}

/// One request, ready to go as often as wanted.
#[derive(Debug)]
pub struct Shot {
    draft: Draft,
    /// The head in HTTP/1.1, up to the last empty line.
    pub head: Vec<u8>,
}

impl Draft {
    /// The request to `target`, with all that can be prepared.
    pub fn finish(self, target: &Target, keep_alive: bool) -> Shot {
        let head = http1::head(
            &self.method,
            &self.path,
            &target.authority,
            &self.headers,
            self.body.len(),
            keep_alive,
        );
        Shot { draft: self, head }
    }
}

impl std::ops::Deref for Shot {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.draft
    }
}

impl Shot {
    /// What an answer with this status is.
    pub fn answered(&self, status: StatusCode) -> End {
        let good = match &self.expect {
            Some(expected) => expected.contains(&status.as_u16()),
            None => status_class(status) < STATUS_CLASSES.len() - 1,
        };
        End::Answered { status, good }
    }
}

/// The routes of a run by number, of each name one.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<String>);

impl Routes {
    /// The number of the route with this method and path or template.
    pub fn number(&mut self, method: &Method, route: &str) -> usize {
        let name = format!("{method} {route}");
        if let Some(known) = self.0.iter().position(|known| *known == name) {
            return known;
        }
        match self.0.len() {
            // The last one is that of all others.
            n if n > ROUTES => ROUTES,
            ROUTES => {
                self.0.push(OTHER_ROUTES.to_owned());
                ROUTES
            }
            n => {
                self.0.push(name);
                n
            }
        }
    }

    /// Their names.
    pub fn names(&self) -> &[String] {
        &self.0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_apart_up_to_a_limit() {
        let mut routes = Routes::default();
        for n in 0..150 {
            assert_eq!(routes.number(&Method::GET, &format!("/{n}")), n.min(ROUTES));
        }
        assert_eq!(routes.number(&Method::GET, "/7"), 7);
        assert_eq!(routes.names().len(), ROUTES + 1);
        assert_eq!(
            (routes.names()[0].as_str(), routes.names()[ROUTES].as_str()),
            ("GET /0", OTHER_ROUTES)
        );
    }
}
