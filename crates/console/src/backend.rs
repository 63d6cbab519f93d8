//! Asking a back end, within bounds. That it does not answer is something to show.

use std::time::Duration;

use maud::{Markup, Render, html};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::silence::{Address, Silent};

/// So long is waited for an answer: a page is worth little later.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nobody reads more than this in a page.
const MOST: usize = 16 << 20;

/// A client that talks to the addresses it is given and to nobody else.
pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
}

/// One back end, which may not be there.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    name: &'static str,
    base: Option<Address>,
    http: Client,
}

/// Why there is nothing to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It is not a part of this stack.
    #[error("{0} is not part of this stack")]
    Absent(&'static str),
    /// It does not answer.
    #[error("{name} does not answer: {why}")]
    Down {
        /// Of the back end.
        name: &'static str,
        /// In a few words.
        why: String,
    },
    /// It answers, and does not do what it was asked for.
    #[error("{name} refuses: {why}")]
    Refused {
        /// Of the back end.
        name: &'static str,
        /// In its own words.
        why: String,
    },
}

impl Render for Trouble {
    fn render(&self) -> Markup {
        html! { p.trouble role="status" { (self.to_string()) } }
    }
}

impl Backend {
    pub(crate) fn new(name: &'static str, http: &Client, base: Option<&str>) -> Self {
        Self {
            name,
            base: base.map(|base| Address::new(http, base)),
            http: http.clone(),
        }
    }

    /// The JSON that a path answers.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Trouble> {
        self.ask(Method::GET, path, query, None).await
    }

    /// The JSON that a path answers to other JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let base = self.base.as_ref().ok_or(Trouble::Absent(self.name))?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", base.url))
            .query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let silent = |silent: Silent| self.down(silent.to_string());
        base.answer(self.read(request)).await.map_err(silent)?
    }

    async fn read(&self, request: RequestBuilder) -> Result<Value, Trouble> {
        let down = |error: &reqwest::Error| self.down(in_a_few_words(error));
        let mut answer = request.send().await.map_err(|error| down(&error))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| down(&error))? {
            if text.len() + chunk.len() > MOST {
                return Err(self.refused(format!(
                    "the answer is longer than {} MiB; ask for less",
                    MOST >> 20
                )));
            }
            text.extend_from_slice(&chunk);
        }
        let value: Result<Value, _> = serde_json::from_slice(&text);
        match (status.is_success(), value) {
            (true, Ok(value)) => Ok(value),
            (true, Err(error)) => Err(self.refused(format!("its answer is not JSON: {error}"))),
            (false, value) => Err(self.refused(own_words(status, value.ok().as_ref()))),
        }
    }

    fn down(&self, why: String) -> Trouble {
        Trouble::Down {
            name: self.name,
            why,
        }
    }

    fn refused(&self, why: String) -> Trouble {
        Trouble::Refused {
            name: self.name,
            why,
        }
    }
}

fn in_a_few_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", PATIENCE.as_secs());
    }
    if error.is_connect() {
        return "nobody listens there".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What Prometheus, Jaeger and Elasticsearch say of a mistake, each in its own form.
fn own_words(status: StatusCode, answer: Option<&Value>) -> String {
    let said = answer.and_then(|answer| {
        let places = [
            "/error/root_cause/0/reason",
            "/error/reason",
            "/error",
            "/errors/0/msg",
            "/message",
            "/detail",
        ];
        places
            .iter()
            .find_map(|place| answer.pointer(place)?.as_str())
    });
    match said {
        Some(said) => said.to_owned(),
        None => format!("status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    use super::*;

    async fn asked(answer: ResponseTemplate) -> Result<Value, Trouble> {
        let server = MockServer::start().await;
        Mock::given(path("/it"))
            .respond_with(answer)
            .mount(&server)
            .await;
        let it = Backend::new("It", &client().unwrap(), Some(&server.uri()));
        it.get("/it", &[("a", "b")]).await
    }

    #[actix_web::test]
    async fn an_answer_is_its_json_and_a_refusal_its_words() {
        let good = ResponseTemplate::new(200).set_body_json(json!({"a": 1}));
        assert_eq!(asked(good).await.unwrap(), json!({"a": 1}));
        for (body, words) in [
            (
                json!({"status": "error", "error": "parse error"}),
                "parse error",
            ),
            (
                json!({"error": {"root_cause": [{"reason": "no such index"}], "reason": "x"}}),
                "no such index",
            ),
            (
                json!({"errors": [{"code": 404, "msg": "trace not found"}]}),
                "trace not found",
            ),
            (json!({}), "status 400 Bad Request"),
        ] {
            let refused = asked(ResponseTemplate::new(400).set_body_json(body)).await;
            let why = words.to_owned();
            assert_eq!(refused.unwrap_err(), Trouble::Refused { name: "It", why });
        }
        let page = asked(ResponseTemplate::new(200).set_body_string("<html>")).await;
        assert!(page.unwrap_err().to_string().contains("not JSON"));
    }

    #[actix_web::test]
    async fn an_answer_without_end_is_cut() {
        let long = ResponseTemplate::new(200).set_body_bytes(vec![b' '; MOST + 1]);
        assert!(
            asked(long)
                .await
                .unwrap_err()
                .to_string()
                .contains("longer")
        );
    }

    #[actix_web::test]
    async fn one_that_is_down_or_absent_is_a_sentence() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let http = client().unwrap();
        let down = Backend::new("It", &http, Some(&format!("http://{address}")));
        let said = down.get("/", &[]).await.unwrap_err().to_string();
        assert_eq!(said, "It does not answer: nobody listens there");
        let absent = Backend::new("It", &http, None);
        let said = absent.get("/", &[]).await.unwrap_err().to_string();
        assert_eq!(said, "It is not part of this stack");
    }
}
