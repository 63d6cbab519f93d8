//! Traffic for the demo shop: browsing, ordering, looking an order up, changing one's mind.

use std::collections::VecDeque;
use std::sync::mpsc;

use rand::RngExt;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::traffic::{NewOrder, Shot, numbered, turn};

/// Products that the demo shop starts with.
const PRODUCTS: std::ops::RangeInclusive<u64> = 1..=12;
/// A product the shop does not have, for the odd 404.
const UNKNOWN_PRODUCT: u64 = 999_999;
/// Orders remembered for each replica; the oldest is forgotten first, so an endless run stays small.
const REMEMBERED: usize = 256;

/// What customers do, and how often out of 100.
///
/// Half as many cancellations as orders: cancelling puts the goods back, so the stock lasts longer.
const MIX: [(Step, u32); 7] = [
    (Step::Products, 22),
    (Step::Product, 30),
    (Step::PlaceOrder, 16),
    (Step::Order, 15),
    (Step::Orders, 8),
    (Step::CancelOrder, 8),
    (Step::UnknownProduct, 1),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Products,
    Product,
    UnknownProduct,
    PlaceOrder,
    Order,
    Orders,
    CancelOrder,
}

/// Customers of the demo shop.
#[derive(Debug)]
pub struct Shop {
    replicas: Vec<Replica>,
    seed: u64,
    placed: Placed,
    news: mpsc::Receiver<(usize, u64)>,
}

/// One base URL, with the orders that were placed through it and not cancelled since. They are kept
/// apart because replicas need not share a database.
#[derive(Debug)]
struct Replica {
    base: Url,
    orders: VecDeque<u64>,
}

/// Hears of orders as they are placed.
#[derive(Debug, Clone)]
pub struct Placed {
    news: mpsc::Sender<(usize, u64)>,
    replica: usize,
}

impl Placed {
    /// Takes the number of the order from the body of a 201. Anything that is not an order that
    /// can still be cancelled is left alone: what the shop answered is counted elsewhere.
    pub fn learn(&self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Order {
            id: u64,
            status: String,
        }
        if let Ok(order) = serde_json::from_slice::<Order>(body)
            && order.status != "failed"
        {
            // The receiver is gone once pacing is over; then nobody needs to know.
            let _ = self.news.send((self.replica, order.id));
        }
    }
}

impl Shop {
    /// Customers of the shop behind `bases`, which take turns. The same `seed` gives the same mix in the same
    /// order; which orders are read and cancelled depends on what the shop answered by then.
    pub fn new(bases: Vec<Url>, seed: u64) -> Self {
        let (sender, news) = mpsc::channel();
        Self {
            replicas: bases
                .into_iter()
                .map(|base| Replica {
                    base,
                    orders: VecDeque::new(),
                })
                .collect(),
            seed,
            placed: Placed {
                news: sender,
                replica: 0,
            },
            news,
        }
    }

    /// The request for the start with this number; replicas take turns.
    pub fn shot(&mut self, number: u64) -> Shot {
        while let Ok((replica, order)) = self.news.try_recv() {
            let orders = &mut self.replicas[replica].orders;
            if orders.len() == REMEMBERED {
                orders.pop_front();
            }
            orders.push_back(order);
        }
        let replica = turn(number, self.replicas.len());
        let mut rng = numbered(self.seed, number);
        let step = Self::step(&mut rng);
        self.request(step, replica, &mut rng)
    }

    fn step(rng: &mut impl RngExt) -> Step {
        let mut ticket = rng.random_range(0..MIX.iter().map(|(_, weight)| weight).sum());
        for (step, weight) in MIX {
            if ticket < weight {
                return step;
            }
            ticket -= weight;
        }
        unreachable!("the ticket is below the sum of the weights")
    }

    fn request(&mut self, step: Step, index: usize, rng: &mut impl RngExt) -> Shot {
        let Self {
            replicas, placed, ..
        } = self;
        let replica = &mut replicas[index];
        let get = |path: &str, template| Shot {
            method: Method::GET,
            url: under(&replica.base, path),
            template: Some(template),
            order: None,
        };
        match step {
            Step::Products => get("api/products", "/api/products"),
            Step::Product => get(
                &format!("api/products/{}", rng.random_range(PRODUCTS)),
                "/api/products/{id}",
            ),
            Step::UnknownProduct => get(
                &format!("api/products/{UNKNOWN_PRODUCT}"),
                "/api/products/{id}",
            ),
            Step::Orders => {
                let mut shot = get("api/orders", "/api/orders");
                shot.url
                    .query_pairs_mut()
                    .append_pair("limit", &rng.random_range(5..=20).to_string());
                shot
            }
            Step::PlaceOrder => {
                // Neighbouring products, so that no product is named twice in an order.
                let first = rng.random_range(PRODUCTS);
                let items: Vec<_> = (0..rng.random_range(1..=3))
                    .map(|next| {
                        let product = (first + next - 1) % PRODUCTS.end() + 1;
                        json!({"product_id": product, "quantity": rng.random_range(1..=2)})
                    })
                    .collect();
                Shot {
                    method: Method::POST,
                    url: under(&replica.base, "api/orders"),
                    template: Some("/api/orders"),
                    order: Some(NewOrder {
                        body: json!({ "items": items }),
                        // Not from the seed: a second run with it would replay the first one's orders.
                        key: Uuid::new_v4().to_string(),
                        placed: Placed {
                            replica: index,
                            ..placed.clone()
                        },
                    }),
                }
            }
            Step::Order if !replica.orders.is_empty() => {
                let order = replica.orders[rng.random_range(0..replica.orders.len())];
                get(&format!("api/orders/{order}"), "/api/orders/{id}")
            }
            Step::CancelOrder if !replica.orders.is_empty() => {
                // Forgotten once cancelled: cancelling twice is a conflict, not what customers do.
                let order = replica
                    .orders
                    .swap_remove_back(rng.random_range(0..replica.orders.len()))
                    .expect("the index is inside");
                Shot {
                    method: Method::POST,
                    url: under(&replica.base, &format!("api/orders/{order}/cancel")),
                    template: Some("/api/orders/{id}/cancel"),
                    order: None,
                }
            }
            // No order is known yet (or none was ever placed): look around instead.
            Step::Order | Step::CancelOrder => get("api/products", "/api/products"),
        }
    }
}

/// `path` below `base`, whether the base ends in a slash or not.
fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(bases: &[&str], seed: u64) -> Shop {
        Shop::new(
            bases
                .iter()
                .map(|base| base.parse().expect("a URL"))
                .collect(),
            seed,
        )
    }

    fn line(shot: &Shot) -> String {
        let body = shot
            .order
            .as_ref()
            .map(|order| order.body.to_string())
            .unwrap_or_default();
        format!("{} {} {body}", shot.method, shot.url)
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_with_new_keys() {
        let run = |seed| {
            let mut shop = shop(&["http://a/"], seed);
            let shots: Vec<_> = (0..200).map(|turn| shop.shot(turn)).collect();
            let keys: Vec<_> = shots
                .iter()
                .flat_map(|shot| &shot.order)
                .map(|o| o.key.clone())
                .collect();
            (shots.iter().map(line).collect::<Vec<_>>(), keys)
        };
        let (first, first_keys) = run(7);
        let (second, second_keys) = run(7);
        assert_eq!(first, second);
        assert!(!first_keys.is_empty());
        assert!(
            first_keys.iter().all(|key| !second_keys.contains(key)),
            "a key is never used again"
        );
        assert_ne!(first, run(8).0);
    }

    #[test]
    fn replicas_take_turns_and_keep_their_own_orders() {
        let mut shop = shop(&["http://a/", "http://b/shop/"], 1);
        let mut next = 0_u64;
        let mut follow_ups = 0;
        for turn in 0..2000 {
            let shot = shop.shot(turn);
            let replica = (turn % 2) as usize;
            assert_eq!(shot.url.host_str(), Some(["a", "b"][replica]));
            assert!(
                shot.url
                    .path()
                    .starts_with(["/api/", "/shop/api/"][replica]),
                "{}",
                shot.url
            );
            if let Some(order) = shot.order {
                // Even numbers for the first replica, odd ones for the second.
                next += 1;
                let id = next * 2 + replica as u64;
                order
                    .placed
                    .learn(json!({"id": id, "status": "paid"}).to_string().as_bytes());
            } else if shot
                .template
                .is_some_and(|template| template.starts_with("/api/orders/{id}"))
            {
                let id: usize = shot
                    .url
                    .path_segments()
                    .expect("segments")
                    .find_map(|segment| segment.parse().ok())
                    .expect("a number");
                assert_eq!(id % 2, replica, "{}", shot.url);
                follow_ups += 1;
            }
        }
        assert!(follow_ups > 0);
    }

    #[test]
    fn orders_are_cancelled_once_about_half_of_them_and_few_are_remembered() {
        let mut shop = shop(&["http://a"], 3);
        let (mut placed, mut cancelled) = (0_u64, std::collections::BTreeSet::new());
        for turn in 0..20_000 {
            let shot = shop.shot(turn);
            if let Some(order) = shot.order {
                let products: Vec<_> = order.body["items"]
                    .as_array()
                    .expect("items")
                    .iter()
                    .map(|i| &i["product_id"])
                    .collect();
                assert!((1..=3).contains(&products.len()));
                for (n, product) in products.iter().enumerate() {
                    assert!(PRODUCTS.contains(&product.as_u64().expect("a number")));
                    assert!(!products[..n].contains(product), "{products:?}");
                }
                placed += 1;
                order.placed.learn(
                    json!({"id": placed, "status": "pending"})
                        .to_string()
                        .as_bytes(),
                );
            } else if shot.method == Method::POST {
                assert!(
                    cancelled.insert(shot.url.path().to_owned()),
                    "cancelled twice: {}",
                    shot.url
                );
            }
        }
        let share = cancelled.len() as f64 / placed as f64;
        assert!((0.4..0.6).contains(&share), "{share}");
        assert!(shop.replicas[0].orders.len() <= REMEMBERED);
        assert!(
            placed as usize - cancelled.len() > 2 * REMEMBERED,
            "enough to forget some"
        );
    }

    #[test]
    fn what_is_no_order_to_follow_up_is_ignored() {
        let mut shop = shop(&["http://a"], 3);
        for body in [
            "",
            "{}",
            "<html>",
            r#"{"id": 1, "status": "failed"}"#,
            r#"{"id": -1, "status": "paid"}"#,
        ] {
            shop.placed.learn(body.as_bytes());
        }
        shop.shot(0);
        assert!(shop.replicas[0].orders.is_empty());
    }
}
