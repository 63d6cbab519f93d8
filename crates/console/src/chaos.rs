//! The services' faults, over `/chaos` of their admin ports: what `lab chaos`, drills and the pages have in common.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

/// The services that have faults, and the components that are their replicas.
pub const SERVICES: [(&str, &[&str]); 2] = [
    ("flask-api", &["flask-api-1", "flask-api-2"]),
    ("payments", &["payments"]),
];

/// The admin ports of a stack, and the secret that opens them.
#[derive(Clone)]
pub struct Admin {
    /// Base URLs by replica.
    ports: BTreeMap<String, String>,
    token: String,
    token_file: PathBuf,
    http: Client,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

/// Why a replica did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no secret.
    #[error("cannot read the token {path}, which `lab up` makes: {cause}", path = path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// No such replica.
    #[error("{0} is not part of the lab that runs here")]
    Unknown(String),
    /// Nobody there.
    #[error("{component} does not answer; `lab status` tells how it is")]
    Silent {
        /// The replica.
        component: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Another secret.
    #[error("{component} does not take the token of {path}; it was started with another: restart the lab", path = path.display())]
    WrongToken {
        /// The replica.
        component: String,
        /// Of the token.
        path: PathBuf,
    },
    /// It says no.
    #[error("{component} answers {status}: {detail}")]
    Refused {
        /// The replica.
        component: String,
        /// Its answer.
        status: StatusCode,
        /// In its words.
        detail: String,
    },
}

impl Error {
    /// Whether something was asked for that makes no sense.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Refused { status, .. } => status.is_client_error(),
            _ => false,
        }
    }
}

impl Admin {
    /// Reads the secret.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(
        ports: BTreeMap<String, String>,
        token_file: &Path,
        http: Client,
    ) -> Result<Self, Error> {
        let token = std::fs::read_to_string(token_file).map_err(|cause| Error::Token {
            path: token_file.into(),
            cause,
        })?;
        Ok(Self {
            ports,
            token: token.trim().to_owned(),
            token_file: token_file.into(),
            http,
        })
    }

    /// Asks a replica.
    ///
    /// # Errors
    /// When there is none of that name, it does not answer, or it says no.
    pub async fn ask(
        &self,
        component: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Error> {
        let base = self
            .ports
            .get(component)
            .ok_or_else(|| Error::Unknown(component.into()))?;
        self.ask_at(component, base, method, path, body).await
    }

    /// The same of one that is not among the replicas, by its base URL.
    ///
    /// # Errors
    /// When it does not answer or says no.
    pub async fn ask_at(
        &self,
        component: &str,
        base: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Error> {
        let mut request = self
            .http
            .request(method, format!("{base}{path}"))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|source| Error::Silent {
            component: component.into(),
            source,
        })?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(Error::WrongToken {
                component: component.into(),
                path: self.token_file.clone(),
            });
        }
        Err(Error::Refused {
            component: component.into(),
            status,
            detail: detail(&body),
        })
    }
}

/// What a problem document says.
fn detail(problem: &Value) -> String {
    let mistakes: Vec<_> = problem["errors"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|mistake| {
            let text = |key: &str| mistake[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("field"), text("message"))
        })
        .collect();
    match mistakes.is_empty() {
        true => problem["detail"].as_str().unwrap_or("no detail").to_owned(),
        false => mistakes.join("; "),
    }
}

/// The settings of an active fault in words: `for 60s, probability 0.1`.
#[must_use]
pub fn settings(settings: &Value) -> String {
    let settings = settings.as_object().into_iter().flatten();
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    settings
        .map(|(name, value)| format!("{name} {}", text(value)))
        .collect::<Vec<_>>()
        .join(", ")
}
