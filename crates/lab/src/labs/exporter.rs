//! Lab 8: an exporter of the learner's own, held against the shop's API, and against stand-ins of it that fail.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::grader::{Graded, Grader, Seen, graded};
use crate::verify::{eventually, samples};

const UP: &str = "myshop_up";
const PRODUCTS: &str = "myshop_products";
const STOCK: &str = "myshop_stock_units";
const SCRAPES: &str = "myshop_scrapes_total";
/// What the page tells, and of which kind it is.
const FAMILIES: [(&str, &str); 4] = [
    (UP, "gauge"),
    (PRODUCTS, "gauge"),
    (STOCK, "gauge"),
    (SCRAPES, "counter"),
];
/// Series beside one for each product: those above, and some of the learner's own ideas.
const MORE: usize = 20;
/// As long as the lab's Prometheus waits for a page.
const WAITS: Duration = Duration::from_secs(4);
/// A product is ordered now and then, and somebody else may read the page.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many products are on a page of the stand-in, whatever was asked for.
const PAGE: usize = 2;

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "Prometheus can read your page",
            "start the exporter, write its address down, and let `promtool check metrics` read its page",
            it.is_readable().await,
        ),
        graded(
            "It says what the shop says",
            "one series a product, read from /api/products when the page is asked for",
            it.says_what_is().await,
        ),
        graded(
            "It counts, and keeps its labels few",
            "a counter goes up by one at each scrape; the only label is product_id",
            it.counts_scrapes().await,
        ),
        graded(
            "It is honest when the shop is away",
            "start it a second time, asking an address where nobody is: it answers 200, with myshop_up 0 and no figures, and in time",
            it.is_honest().await,
        ),
        graded(
            "It keeps nothing in its head, and reads to the last page",
            "while you are not looking a stand-in of the shop answers there: next_cursor leads to its next page of products",
            it.reads_anew().await,
        ),
    ]
}

/// Units of each product, by its id.
type Stock = BTreeMap<u32, i64>;

/// How a stand-in of the shop's API answers.
#[derive(Debug, Clone)]
enum Behaviour {
    Sells(Stock),
    /// 500.
    Fails,
    /// Takes the request, and says nothing.
    IsSilent,
}

impl Behaviour {
    /// Status and body for the target of a request; nothing when there is no answer.
    fn answer(&self, target: &str) -> Option<(u16, Value)> {
        let products = match self {
            Self::IsSilent => return None,
            Self::Fails => return Some((500, json!({ "title": "Internal Server Error" }))),
            Self::Sells(products) => products,
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path != "/api/products" {
            return Some((404, json!({ "title": "Not Found" })));
        }
        // A cursor names the last product before it, as the shop's own do.
        let cursor = query.split('&').find_map(|it| it.strip_prefix("cursor=p"));
        let after = cursor.and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut rest = products.range(after + 1..).peekable();
        let items: Vec<_> = rest.by_ref().take(PAGE).collect();
        let last = items.last().map(|(id, _)| format!("p{id}"));
        let next = rest.peek().and(last);
        let items: Vec<_> = items
            .into_iter()
            .map(|(id, stock)| json!({ "id": id, "name": "Stand-in", "price_cents": 100, "stock": stock }))
            .collect();
        Some((200, json!({ "items": items, "next_cursor": next })))
    }

    /// Answers requests until nobody waits for it any more.
    async fn stand_in(self, listener: TcpListener) -> anyhow::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = listener.accept().await?;
            connections.spawn(self.clone().converse(connection));
        }
    }

    async fn converse(self, mut connection: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        while !request.windows(4).any(|it| it == b"\r\n\r\n") {
            if connection.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let request = String::from_utf8_lossy(&request);
        let target = request.split(' ').nth(1).unwrap_or_default();
        let Some((status, body)) = self.answer(target) else {
            return std::future::pending().await;
        };
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Stand-in\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        connection.write_all((head + &body).as_bytes()).await?;
        connection.shutdown().await
    }
}

/// What a page says the stock is; every series has the one label.
fn stock(page: &str) -> anyhow::Result<Stock> {
    let series = samples(page, STOCK).into_iter();
    let series = series.map(|(labels, units)| {
        let id = labels.strip_prefix("{product_id=\"");
        let id = id
            .and_then(|it| it.strip_suffix("\"}"))
            .and_then(|it| it.parse().ok());
        let id =
            id.with_context(|| format!("{STOCK}{labels} has not product_id alone as its label"))?;
        #[expect(clippy::cast_possible_truncation, reason = "stocks are far below 2^53")]
        Ok((id, units.round() as i64))
    });
    series.collect()
}

/// A number without labels.
fn number(page: &str, metric: &str) -> anyhow::Result<f64> {
    let value = samples(page, metric).get("").copied();
    value.with_context(|| format!("there is no {metric} without labels"))
}

fn is(page: &str, metric: &str, wanted: usize) -> anyhow::Result<()> {
    let given = number(page, metric)?;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let same = (given - wanted as f64).abs() < 0.5;
    ensure!(same, "{metric} is {given}");
    Ok(())
}

/// The page of an exporter that cannot reach what it is to read.
fn says_that_it_is_away(page: &str) -> anyhow::Result<()> {
    is(page, UP, 0)?;
    for metric in [PRODUCTS, STOCK] {
        let series = samples(page, metric);
        if let Some((labels, value)) = series.first_key_value() {
            bail!("{metric}{labels} is {value}, which nobody can know");
        }
    }
    number(page, SCRAPES).map(drop)
}

/// The page says of a shop exactly what it sells.
fn says(page: &str, sold: &Stock) -> anyhow::Result<()> {
    is(page, UP, 1)?;
    let given = stock(page)?;
    ensure!(
        given == *sold,
        "the shop had {} products with other stocks than the {} of your page",
        sold.len(),
        given.len()
    );
    is(page, PRODUCTS, sold.len())
}

/// A shop that nobody can have seen before.
fn shop() -> Stock {
    let mut random = rand::rng();
    let products = random.random_range(2 * PAGE + 1..5 * PAGE);
    (1..)
        .take(products)
        .map(|id| (id * 7, random.random_range(0..1_000_000)))
        .collect()
}

impl Grader<'_> {
    fn address(&self, question: &str) -> anyhow::Result<String> {
        let url = self.answers()?.text(question)?;
        let url = url.trim_end_matches('/');
        ensure!(
            url.starts_with("http://"),
            "`{question}`: {url} is no http:// address"
        );
        Ok(url.to_owned())
    }

    /// The page of the exporter that is named by the answer to a question.
    async fn page(&self, question: &str) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.address(question)?);
        let asked = timeout(WAITS, self.probe.page(&url)).await;
        let (kind, page) =
            asked.with_context(|| format!("{url} takes more than {WAITS:?} to answer"))??;
        ensure!(
            kind.starts_with("text/plain"),
            "{url} has the content-type {kind:?}, not text/plain"
        );
        Ok(page)
    }

    async fn is_readable(&self) -> Seen {
        let page = self.page("exporter").await?;
        for (name, kind) in FAMILIES {
            let head = format!("# TYPE {name} ");
            let given = page.lines().find_map(|line| line.strip_prefix(&head));
            let given = given.with_context(|| format!("there is no line `{head}...`"))?;
            ensure!(given == kind, "{name} is a {given}");
            ensure!(!samples(&page, name).is_empty(), "{name} has no sample");
        }
        self.promtool_reads(&["check".as_ref(), "metrics".as_ref()], &page)
            .await?;
        Ok(vec![format!(
            "{} lines; promtool finds nothing wrong",
            page.lines().count()
        )])
    }

    /// What the shop says now, to its last page.
    async fn shop_stock(&self) -> anyhow::Result<Stock> {
        let url = format!("{}/api/products", self.endpoints.flask_api[0]);
        let mut all = Stock::new();
        let mut cursor = String::new();
        loop {
            let answer = self
                .probe
                .get(&url, &[("limit", "100"), ("cursor", &cursor)])
                .await?;
            for product in answer["items"]
                .as_array()
                .context("the shop has no products")?
            {
                let id = product["id"].as_u64().and_then(|id| id.try_into().ok());
                let stock = product["stock"].as_i64();
                all.insert(
                    id.context("a product has an id")?,
                    stock.context("a product has a stock")?,
                );
            }
            match answer["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    async fn says_what_is(&self) -> Seen {
        eventually(PATIENCE, async || {
            let before = self.shop_stock().await?;
            let page = self.page("exporter").await?;
            let after = self.shop_stock().await?;
            is(&page, UP, 1)?;
            let given = stock(&page)?;
            for (id, units) in &given {
                let between = [before.get(id), after.get(id)];
                let [Some(before), Some(after)] = between else {
                    bail!("the shop has no product {id}");
                };
                // Orders go on meanwhile, and some are called off.
                ensure!(
                    before != after || before == units,
                    "product {id} has {units} units, and the shop says another number"
                );
            }
            ensure!(
                given.len() == after.len(),
                "there are {} products in the shop, and {} on your page",
                after.len(),
                given.len()
            );
            let still = given.keys().filter(|id| before[id] == after[id]).count();
            ensure!(still > 0, "every product was ordered during the comparison");
            is(&page, PRODUCTS, after.len())?;
            Ok(vec![format!("{} products; {still} of them were not ordered meanwhile, and have the shop's stock", after.len())])
        })
        .await
    }

    async fn counts_scrapes(&self) -> Seen {
        eventually(PATIENCE, async || {
            let before = number(&self.page("exporter").await?, SCRAPES)?;
            let page = self.page("exporter").await?;
            let after = number(&page, SCRAPES)?;
            let more = after - before;
            ensure!(
                (more - 1.0).abs() < 0.5,
                "{SCRAPES} went up by {more} from one scrape to the next"
            );
            let series = page
                .lines()
                .filter(|line| line.starts_with("myshop_"))
                .count();
            let products = stock(&page)?.len();
            ensure!(products > 0, "{STOCK} has no series");
            ensure!(
                series <= products + MORE,
                "{series} series are too many for {products} products"
            );
            Ok(vec![format!(
                "{SCRAPES} went from {before} to {after}; {series} series in all"
            )])
        })
        .await
    }

    /// The page of the second exporter while a stand-in answers it in the shop's place.
    async fn page_before(&self, behaviour: Behaviour) -> anyhow::Result<String> {
        let url = self.address("practice_api")?;
        let address = url.strip_prefix("http://").and_then(|it| it.parse().ok());
        let address = address.filter(|it: &SocketAddr| it.ip().is_loopback());
        let address = address.with_context(|| {
            format!("`practice_api`: {url} is not http://127.0.0.1: and a port")
        })?;
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("`practice_api`: nobody should be at {address} but this check")
        })?;
        tokio::select! {
            page = self.page("practice") => page,
            fault = behaviour.stand_in(listener) => Err(fault.err().context("a stand-in goes on")?),
        }
    }

    async fn is_honest(&self) -> Seen {
        let nobody = self.page("practice").await?;
        says_that_it_is_away(&nobody).context("where nobody is")?;
        // That it is the one that asks there: it gives what nobody else has.
        let sold = shop();
        let page = self.page_before(Behaviour::Sells(sold)).await?;
        is(&page, UP, 1).context("`practice` does not ask what is at `practice_api`")?;
        for (behaviour, what) in [
            (Behaviour::Fails, "where a shop answers 500"),
            (
                Behaviour::IsSilent,
                "where a shop takes the request and says nothing",
            ),
        ] {
            let page = self.page_before(behaviour).await.context(what)?;
            says_that_it_is_away(&page).context(what)?;
        }
        Ok(vec![format!(
            "200 and {UP} 0 where nobody is, where a shop answers 500, and where one says nothing"
        )])
    }

    async fn reads_anew(&self) -> Seen {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let sold = shop();
            let page = self.page_before(Behaviour::Sells(sold.clone())).await?;
            says(&page, &sold).context("while a stand-in answered in the shop's place")?;
            seen.push(format!(
                "{} products of a stand-in on pages of {PAGE}: all are there",
                sold.len()
            ));
        }
        says_that_it_is_away(&self.page("practice").await?)
            .context("after the stand-in had gone")?;
        seen.push("nothing of them is left once it has gone".into());
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: &str = "myshop_up 0\nmyshop_scrapes_total 3\n";

    #[test]
    fn the_stand_in_gives_all_its_products_page_by_page() {
        let sold: Stock = (1..).zip([5, 0, 7, 8, 9]).collect();
        let shop = Behaviour::Sells(sold.clone());
        let mut target = "/api/products?limit=100".to_owned();
        let mut read = Stock::new();
        let mut pages = 0;
        loop {
            let (status, body) = shop.answer(&target).unwrap();
            assert_eq!(status, 200);
            pages += 1;
            for item in body["items"].as_array().unwrap() {
                read.insert(
                    serde_json::from_value(item["id"].clone()).unwrap(),
                    item["stock"].as_i64().unwrap(),
                );
            }
            match body["next_cursor"].as_str() {
                Some(cursor) => target = format!("/api/products?limit=100&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!((read, pages), (sold, 3));
        assert_eq!(shop.answer("/api/orders").unwrap().0, 404);
        assert_eq!(Behaviour::Fails.answer(&target).unwrap().0, 500);
        assert!(Behaviour::IsSilent.answer(&target).is_none());
    }

    #[test]
    fn a_page_is_honest_only_without_figures() {
        assert!(says_that_it_is_away(AWAY).is_ok());
        for (page, why) in [
            ("", "there is no myshop_up"),
            ("myshop_up 1\nmyshop_scrapes_total 3\n", "myshop_up is 1"),
            ("myshop_up 0\n", "no myshop_scrapes_total"),
            (
                &format!("{AWAY}myshop_products 10\n"),
                "myshop_products is 10",
            ),
            (
                &format!("{AWAY}myshop_stock_units{{product_id=\"1\"}} 4\n"),
                "product_id=\"1\"} is 4",
            ),
        ] {
            let error = says_that_it_is_away(page).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_page_says_of_a_shop_exactly_what_it_sells() {
        let sold = Stock::from([(1, 4), (2, 0)]);
        let page = |up: u8, products: u8, stock: &str| {
            format!("myshop_up {up}\nmyshop_products {products}\n{stock}")
        };
        let right =
            "myshop_stock_units{product_id=\"1\"} 4\nmyshop_stock_units{product_id=\"2\"} 0.0\n";
        assert!(says(&page(1, 2, right), &sold).is_ok());
        for (page, why) in [
            (page(0, 2, right), "myshop_up is 0"),
            (page(1, 1, right), "myshop_products is 1"),
            (
                page(1, 2, "myshop_stock_units{product_id=\"1\"} 4\n"),
                "the 1 of your page",
            ),
            (page(1, 2, &right.replace(" 4", " 5")), "other stocks"),
            (
                page(1, 2, &right.replace("\"}", "\",name=\"x\"}")),
                "product_id alone",
            ),
        ] {
            let error = says(&page, &sold).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
