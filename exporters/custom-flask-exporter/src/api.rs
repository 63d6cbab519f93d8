//! The demo API, as a client of the shop sees it.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// Products asked for at a time; the API gives no more.
const PAGE: &str = "100";

/// Where an API is: `http://HOST:PORT`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a URL is not that of an API. The URL is not repeated: it may carry a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BaseUrlError {
    /// Not a URL.
    #[error("not a URL: write it like http://127.0.0.1:5000")]
    Invalid,
    /// Another scheme.
    #[error("must start with http://: this exporter speaks plain HTTP to the API")]
    Scheme,
    /// More than scheme, host and port.
    #[error("must be scheme, host and port only, like http://127.0.0.1:5000")]
    NotBase,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let url: Url = text.parse().map_err(|_| BaseUrlError::Invalid)?;
        if url.scheme() != "http" {
            return Err(BaseUrlError::Scheme);
        }
        let credentials = !url.username().is_empty() || url.password().is_some();
        if credentials || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(BaseUrlError::NotBase);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Why the API gave no useful answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No connection, no answer in time, or one that is not what the API promises.
    #[error("{}", with_causes(.0))]
    Transport(#[from] reqwest::Error),
    /// An answer that refuses.
    #[error("{path} answered {status}")]
    Status {
        /// The path asked for.
        path: String,
        /// What it answered.
        status: StatusCode,
    },
}

/// reqwest keeps "connection refused" and its like in the causes.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What connects to APIs; one for the whole program.
pub fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .user_agent(concat!(
            env!("CARGO_PKG_NAME"),
            "/",
            env!("CARGO_PKG_VERSION")
        ))
        // Nobody but the API named is to be talked to: neither where it sends us, nor a proxy.
        .redirect(redirect::Policy::none())
        .no_proxy()
        // A kept connection would hide that nobody can connect any more.
        .pool_max_idle_per_host(0)
        .build()
}

/// One API, asked until a point in time.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: BaseUrl,
    deadline: Instant,
}

/// An order, as far as it matters here.
#[derive(Debug, Deserialize)]
pub struct Order {
    /// Identifies the order.
    pub id: i64,
    /// `pending`, `paid`, `failed` or `cancelled`.
    pub status: String,
}

/// A page of the catalogue, of which only the length matters.
#[derive(Debug, Deserialize)]
struct Products {
    items: Vec<serde::de::IgnoredAny>,
    next_cursor: Option<String>,
}

impl Api {
    /// The API at `base`, to be asked up to `deadline`.
    pub fn until(deadline: Instant, client: Client, base: BaseUrl) -> Self {
        Self {
            client,
            base,
            deadline,
        }
    }

    /// Gives it another deadline.
    pub fn allow_until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Time left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.0.clone();
        url.set_path(path);
        self.client.request(method, url).timeout(self.left())
    }

    /// Whether it says that it can serve; an answer that says no is an answer.
    pub async fn is_ready(&self) -> Result<bool, ApiError> {
        let response = self.request(Method::GET, "/readyz").send().await?;
        Ok(response.status() == StatusCode::OK)
    }

    /// Products in its catalogue, all pages of it.
    pub async fn count_products(&self) -> Result<usize, ApiError> {
        let mut count = 0;
        let mut cursor = String::new();
        loop {
            let request = self
                .request(Method::GET, "/api/products")
                .query(&[("limit", PAGE), ("cursor", &cursor)]);
            let page: Products = decode(request.send().await?, StatusCode::OK).await?;
            count += page.items.len();
            match page.next_cursor {
                Some(next) => cursor = next,
                None => return Ok(count),
            }
        }
    }

    /// Orders one unit of a product. Asked again with the same key, it is the same order.
    pub async fn place_order(&self, product_id: i64, key: &str) -> Result<Response, ApiError> {
        let order = serde_json::json!({"items": [{"product_id": product_id, "quantity": 1}]});
        let request = self
            .request(Method::POST, "/api/orders")
            .header("Idempotency-Key", key)
            .json(&order);
        Ok(request.send().await?)
    }

    /// Calls an order off.
    pub async fn cancel_order(&self, id: i64) -> Result<Response, ApiError> {
        let path = format!("/api/orders/{id}/cancel");
        Ok(self.request(Method::POST, &path).send().await?)
    }
}

/// The body of a response that has the status wanted.
pub async fn decode<T: DeserializeOwned>(
    response: Response,
    wanted: StatusCode,
) -> Result<T, ApiError> {
    if response.status() != wanted {
        return Err(ApiError::Status {
            path: response.url().path().to_owned(),
            status: response.status(),
        });
    }
    Ok(response.json().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_scheme_host_and_port() {
        for (text, shown) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
            ("HTTP://Shop.Example:80", "http://shop.example"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ] {
            let url: BaseUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use BaseUrlError::*;
        for (text, error) in [
            ("", Invalid),
            ("shop", Invalid),
            ("http://", Invalid),
            ("shop:5000", Scheme),
            ("https://shop", Scheme),
            ("file:///etc/passwd", Scheme),
            ("http://shop/api", NotBase),
            ("http://shop?x", NotBase),
            ("http://shop#x", NotBase),
            ("http://user@shop", NotBase),
            ("http://:secret@shop", NotBase),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
    }
}
