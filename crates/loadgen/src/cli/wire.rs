//! What is sent with each request, and over what.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

use super::CannotStart;
use crate::client::Manner;
use crate::pace::length;
use crate::traffic::{Draft, Routes, Shot};
use crate::transport::{Connector, Lookup, Protocol, Resolved, Way};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("loadgen/", env!("CARGO_PKG_VERSION")));

/// What and how to send.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Requests and connections")]
pub struct WireArgs {
    /// The method, of plain URLs [default: GET, or POST with a body]
    #[arg(long, value_name = "METHOD", env = "LOADGEN_METHOD", value_parser = method, conflicts_with = "scenario")]
    pub method: Option<Method>,

    /// A field of every request, such as 'accept: text/html'; @FILE takes one from each line of a file; may be repeated
    #[arg(
        long = "header",
        value_name = "NAME: VALUE",
        env = "LOADGEN_HEADERS",
        value_delimiter = '\n'
    )]
    pub headers: Vec<String>,

    /// The body of every request to plain URLs; @FILE takes it from a file, as it is
    #[arg(
        long,
        value_name = "TEXT",
        env = "LOADGEN_BODY",
        conflicts_with = "scenario"
    )]
    pub body: Option<String>,

    /// How long a request may take, from its actual start to the end of its answer
    #[arg(long, value_name = "DURATION", default_value = "10s", env = "LOADGEN_TIMEOUT", value_parser = length)]
    pub timeout: Duration,

    /// How long a connection may take to be made, as part of that [default: as --timeout]
    #[arg(long, value_name = "DURATION", env = "LOADGEN_CONNECT_TIMEOUT", value_parser = length)]
    pub connect_timeout: Option<Duration>,

    /// The version of HTTP; without TLS, a server of HTTP/2 is taken to know
    #[arg(
        long,
        value_name = "VERSION",
        value_enum,
        default_value_t,
        env = "LOADGEN_HTTP"
    )]
    pub http: Protocol,

    /// Make a new connection for each request
    #[arg(long, env = "LOADGEN_NO_KEEP_ALIVE")]
    pub no_keep_alive: bool,

    /// Open so many connections before the run, and let all of them take turns [default: as many as it takes; one with HTTP/2]
    #[arg(long, value_name = "N", env = "LOADGEN_CONNECTIONS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: Option<u32>,

    /// Trust the certificates in this PEM file, instead of those of the system
    #[arg(long, value_name = "FILE", env = "LOADGEN_CA")]
    pub ca: Option<PathBuf>,

    /// Connect to this Unix socket, whatever the URL's host is
    #[arg(long, value_name = "PATH", env = "LOADGEN_UNIX_SOCKET")]
    pub unix_socket: Option<PathBuf>,

    /// Use this address for a host and port, as curl has it: shop.example:443:127.0.0.1; may be repeated
    #[arg(
        long = "resolve",
        value_name = "HOST:PORT:ADDRESS",
        env = "LOADGEN_RESOLVE",
        value_delimiter = ' '
    )]
    pub resolved: Vec<Resolved>,

    /// When names are looked up
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        env = "LOADGEN_DNS"
    )]
    pub dns: Lookup,
}

impl WireArgs {
    /// How connections are made.
    pub fn way(&self) -> Way {
        Way {
            protocol: self.http,
            ca: self.ca.clone(),
            unix_socket: self.unix_socket.clone(),
            lookup: self.dns,
            resolved: self.resolved.clone(),
        }
    }

    /// Whether connections are used again.
    pub fn keep_alive(&self) -> bool {
        !self.no_keep_alive
    }

    /// How requests are sent.
    ///
    /// # Errors
    /// When that contradicts itself.
    pub fn manner(&self) -> Result<Manner, CannotStart> {
        if self.no_keep_alive && self.http == Protocol::Http2 {
            return Err(CannotStart::Wrong(
                "--no-keep-alive goes with HTTP/1.1 only: HTTP/2 is there to share connections"
                    .to_owned(),
            ));
        }
        if self.no_keep_alive && self.connections.is_some() {
            return Err(CannotStart::Wrong(
                "--no-keep-alive and --connections contradict each other: leave one of them out"
                    .to_owned(),
            ));
        }
        Ok(Manner {
            timeout: self.timeout,
            connect_timeout: self.connect_timeout.unwrap_or(self.timeout),
            keep_alive: self.keep_alive(),
            held: self.connections.map(|connections| connections as usize),
        })
    }

    /// The request to each of `urls`.
    ///
    /// # Errors
    /// When a file cannot be read, or a field is none.
    pub fn shots(
        &self,
        urls: &[Url],
        fields: &HeaderMap,
        connector: &Connector,
        routes: &mut Routes,
    ) -> Result<Vec<Rc<Shot>>, CannotStart> {
        let body = self.body()?;
        let method = match &self.method {
            Some(method) => method.clone(),
            None if self.body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut shot = |(target, url): (usize, &Url)| {
            let draft = Draft {
                target,
                method: method.clone(),
                path: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
                template: None,
                route: routes.number(&method, url.path()),
                headers: fields.clone(),
                body: body.clone(),
                keep: false,
                expect: None,
            };
            Rc::new(draft.finish(&connector.targets()[target], self.keep_alive()))
        };
        Ok(urls.iter().enumerate().map(&mut shot).collect())
    }

    fn body(&self) -> Result<Bytes, CannotStart> {
        match self.body.as_deref() {
            None => Ok(Bytes::new()),
            Some(text) => match text.strip_prefix('@') {
                Some(file) => read(Path::new(file), "--body").map(Bytes::from),
                None => Ok(Bytes::from(text.to_owned())),
            },
        }
    }

    /// The fields of every request.
    ///
    /// # Errors
    /// When a file cannot be read, or a field is none.
    pub fn fields(&self) -> Result<HeaderMap, CannotStart> {
        let mut fields = HeaderMap::new();
        for given in &self.headers {
            let Some(file) = given.strip_prefix('@') else {
                let (name, value) = field(given).map_err(CannotStart::Wrong)?;
                fields.append(name, value);
                continue;
            };
            let path = Path::new(file);
            let bytes = read(path, "--header")?;
            let wrong = |why: String| CannotStart::Input {
                path: path.to_owned(),
                flag: "--header",
                why,
            };
            let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
            for (n, line) in text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
            {
                // Not the line itself: such files are there to keep secrets.
                let (name, value) = field(line)
                    .map_err(|_| wrong(format!("line {} is not of the form NAME: VALUE", n + 1)))?;
                fields.append(name, value);
            }
        }
        fields.entry(USER_AGENT).or_insert(AGENT);
        fields
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("*/*"));
        Ok(fields)
    }
}

fn read(path: &Path, flag: &'static str) -> Result<Vec<u8>, CannotStart> {
    std::fs::read(path).map_err(|error| CannotStart::Input {
        path: path.to_owned(),
        flag,
        why: error.to_string(),
    })
}

fn method(text: &str) -> Result<Method, String> {
    let upper = !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase());
    upper
        .then(|| text.parse().ok())
        .flatten()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| "give a method such as GET, HEAD, POST, PUT or DELETE".to_owned())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || {
        format!("--header {text:?} is not of the form NAME: VALUE, for example 'accept: text/html'")
    };
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
    let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err(format!(
            "--header: loadgen itself says the {name} (see --body, --no-keep-alive)"
        ));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let (name, value) = field("X-Token:  a: b ").expect("a field");
        assert_eq!((name.as_str(), value.as_bytes()), ("x-token", &b"a: b"[..]));
        for text in [
            "",
            "x",
            ": x",
            "x y: z",
            "connection: close",
            "Content-Length: 7",
            "x: \u{7}",
        ] {
            assert!(field(text).is_err(), "{text}");
        }
    }

    #[test]
    fn methods() {
        assert_eq!(method("PATCH"), Ok(Method::PATCH));
        for text in ["", "get", "GET /", "CONNECT"] {
            assert!(method(text).is_err(), "{text}");
        }
    }
}
