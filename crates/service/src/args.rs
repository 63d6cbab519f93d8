//! Flags and settings of a server.

use std::{
    fmt::Debug, marker::PhantomData, net::SocketAddr, num::NonZeroU32, path::PathBuf,
    time::Duration,
};

use crate::{Error, Limits, Token, tls::CertificateFiles};

/// Names and defaults that differ from program to program: an empty struct implements it.
pub trait Program: Clone + Debug + Send + Sync + 'static {
    /// Default of `--listen`.
    const LISTEN: &'static str;
    /// Environment variable behind `--listen`.
    const LISTEN_ENV: &'static str;
    /// Environment variable behind `--tls-listen`.
    const TLS_LISTEN_ENV: &'static str;
    /// Environment variable behind `--tls-certificate`.
    const TLS_CERTIFICATE_ENV: &'static str;
    /// Environment variable behind `--tls-key`.
    const TLS_KEY_ENV: &'static str;
    /// Default of `--admin-listen`.
    const ADMIN_LISTEN: &'static str;
    /// Environment variable behind `--admin-listen`.
    const ADMIN_LISTEN_ENV: &'static str;
    /// Default of `--workers`.
    const WORKERS: &'static str;
    /// Environment variable behind `--workers`.
    const WORKERS_ENV: &'static str;
    /// Environment variable behind `--drain-delay`.
    const DRAIN_DELAY_ENV: &'static str;
    /// Environment variable behind `--shutdown-timeout`.
    const SHUTDOWN_TIMEOUT_ENV: &'static str;
}

/// Flags every service understands; flatten them into the program's own.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs<P: Program> {
    /// Address of the public API; port 0 takes a free one and logs it
    #[arg(long, value_name = "ADDR", env = P::LISTEN_ENV, default_value = P::LISTEN)]
    pub listen: SocketAddr,

    /// Address of the public API over HTTPS, beside the other
    #[arg(long, value_name = "ADDR", env = P::TLS_LISTEN_ENV, requires_all = ["tls_certificate", "tls_key"])]
    pub tls_listen: Option<SocketAddr>,

    /// Its certificate chain (PEM); read again when the file changes
    #[arg(long, value_name = "FILE", env = P::TLS_CERTIFICATE_ENV, value_parser = parse_file)]
    pub tls_certificate: Option<PathBuf>,

    /// The private key that belongs to it (PEM)
    #[arg(long, value_name = "FILE", env = P::TLS_KEY_ENV, value_parser = parse_file)]
    pub tls_key: Option<PathBuf>,

    /// Address of /metrics, /healthz, /readyz, /log-level and /chaos; keep it away from clients
    #[arg(long, value_name = "ADDR", env = P::ADMIN_LISTEN_ENV, default_value = P::ADMIN_LISTEN)]
    pub admin_listen: SocketAddr,

    /// Threads that serve the public API
    #[arg(long, value_name = "N", env = P::WORKERS_ENV, default_value = P::WORKERS, value_parser = parse_workers)]
    pub workers: usize,

    /// How long to go on serving after readiness fails, so that load balancers notice
    #[arg(long, value_name = "TIME", env = P::DRAIN_DELAY_ENV, default_value = "1s", value_parser = parse_duration)]
    pub drain_delay: Duration,

    /// How long requests in flight may take to end, and then how long spans may take to be sent
    #[arg(long, value_name = "TIME", env = P::SHUTDOWN_TIMEOUT_ENV, default_value = "10s", value_parser = parse_duration)]
    pub shutdown_timeout: Duration,

    /// What to log, in `tracing` filter syntax: `info`, `warn,service=debug`
    // actix_http reports every client's malformed request as an error of ours.
    #[arg(
        long,
        value_name = "FILTER",
        env = "RUST_LOG",
        default_value = "info,actix_server=warn,actix_http=off"
    )]
    pub log_level: String,

    /// Largest request body, in bytes; a larger one is refused with 413
    #[arg(long, value_name = "BYTES", env = "HTTP_MAX_BODY", default_value_t = Limits::default().body_bytes)]
    pub max_body: usize,

    /// How long a request's head may take to arrive before the connection is closed
    #[arg(long, value_name = "TIME", env = "HTTP_HEAD_TIMEOUT", default_value = "5s", value_parser = parse_timeout)]
    pub head_timeout: Duration,

    /// How long a request's body may take to arrive before it is refused with 408
    #[arg(long, value_name = "TIME", env = "HTTP_BODY_TIMEOUT", default_value = "10s", value_parser = parse_timeout)]
    pub body_timeout: Duration,

    /// Requests a second that one client may send, the rest being refused with 429; no limit without it
    #[arg(long, value_name = "N", env = "HTTP_RATE_LIMIT")]
    pub rate_limit: Option<NonZeroU32>,

    /// Web pages of this origin may call the API from a browser; may be given several times, separated by
    /// commas in the environment. None may without it
    #[arg(long, value_name = "ORIGIN", env = "HTTP_CORS_ORIGINS", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origin: Vec<String>,

    /// Lets faults be started with the token in this file, at /chaos of the admin port and by the
    /// header X-Fault on a request; without it there are none
    #[arg(long, value_name = "FILE", env = "CHAOS_TOKEN_FILE", value_parser = parse_token_file)]
    pub chaos_token_file: Option<PathBuf>,

    #[arg(skip)]
    program: PhantomData<P>,
}

impl<P: Program> ServerArgs<P> {
    /// The token of `--chaos-token-file`, if there is one.
    ///
    /// # Errors
    /// [`Error::Usage`] when the file cannot be used.
    pub fn chaos_token(&self) -> Result<Option<Token>, Error> {
        self.chaos_token_file
            .as_deref()
            .map(Token::read)
            .transpose()
    }

    /// The settings of the server, with the names an error message about them should use.
    pub fn config(&self) -> ServerConfig {
        ServerConfig {
            listen: Listen {
                address: self.listen,
                flag: "--listen",
                env: P::LISTEN_ENV,
            },
            tls: self.tls(),
            admin_listen: Listen {
                address: self.admin_listen,
                flag: "--admin-listen",
                env: P::ADMIN_LISTEN_ENV,
            },
            workers: self.workers,
            drain_delay: self.drain_delay,
            limits: Limits {
                body_bytes: self.max_body,
                head_time: self.head_timeout,
                body_time: self.body_timeout,
                requests_per_second: self.rate_limit,
            },
            cors_origins: self.cors_origin.clone(),
            shutdown_timeout: self.shutdown_timeout,
        }
    }

    /// clap sees to it that the files are there where the address is.
    fn tls(&self) -> Option<Tls> {
        Some(Tls {
            listen: Listen {
                address: self.tls_listen?,
                flag: "--tls-listen",
                env: P::TLS_LISTEN_ENV,
            },
            files: CertificateFiles {
                certificate: self.tls_certificate.clone()?,
                key: self.tls_key.clone()?,
            },
        })
    }
}

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The public API.
    pub listen: Listen,
    /// The same over HTTPS.
    pub tls: Option<Tls>,
    /// Metrics, probes, log level.
    pub admin_listen: Listen,
    /// Threads that serve the public API, at least 1.
    pub workers: usize,
    /// What a request may be like.
    pub limits: Limits,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    /// From failing readiness to no longer accepting connections.
    pub drain_delay: Duration,
    /// For requests in flight to end; rounded up to whole seconds.
    pub shutdown_timeout: Duration,
}

/// An address to listen on, and how its user can change it.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The flag that sets it.
    pub flag: &'static str,
    /// The environment variable that sets it.
    pub env: &'static str,
}

/// An address that speaks HTTPS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Where.
    pub listen: Listen,
    /// With what.
    pub files: CertificateFiles,
}

impl ServerConfig {
    /// Free loopback ports, one worker, no drain delay: for tests within one process.
    pub fn ephemeral() -> Self {
        let free = |flag, env| Listen {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            flag,
            env,
        };
        Self {
            listen: free("--listen", "LISTEN"),
            tls: None,
            admin_listen: free("--admin-listen", "ADMIN_LISTEN"),
            workers: 1,
            limits: Limits::default(),
            cors_origins: Vec::new(),
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// Reads `250ms`, `1m 30s`, or a plain number of seconds such as `1.5`.
///
/// # Errors
/// Text for the user when it is neither, or negative.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().map(Duration::try_from_secs_f64);
    let duration = match seconds {
        Some(duration) => duration.map_err(|e| e.to_string()),
        None => text
            .parse::<jiff::SignedDuration>()
            .map_err(|e| e.to_string())
            .and_then(|d| Duration::try_from(d).map_err(|e| e.to_string())),
    };
    duration.map_err(|reason| format!("{reason}; write it like `250ms`, `1s`, `1m 30s`"))
}

/// Shorter ones would refuse what is merely on its way; and the HTTP library's clock ticks in half seconds.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        timeout if timeout < Duration::from_secs(1) => Err("has to be 1s or more".to_owned()),
        timeout => Ok(timeout),
    }
}

/// `scheme://host[:port]`, as browsers send it.
fn parse_origin(text: &str) -> Result<String, String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(host) if !host.is_empty() && !host.contains(['/', '*', '@', ' ', '?', '#']) => {
            Ok(text.to_owned())
        }
        _ => Err(
            "an origin is http://HOST[:PORT] or https://HOST[:PORT], without a path or *"
                .to_owned(),
        ),
    }
}

/// A file that cannot be read is told together with every other mistake.
fn parse_file(text: &str) -> Result<PathBuf, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe can be read once, and that is for whoever needs what is in it.
    if std::fs::metadata(text).map_err(unreadable)?.is_file() {
        std::fs::File::open(text).map_err(unreadable)?;
    }
    Ok(text.into())
}

fn parse_token_file(text: &str) -> Result<PathBuf, String> {
    let file = parse_file(text)?;
    if file.is_file() {
        Token::check(&file)?;
    }
    Ok(file)
}

fn parse_workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one thread is needed".to_owned()),
        Ok(workers) => Ok(workers),
        Err(e) => Err(format!("{e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("250ms", 250),
            ("1s", 1000),
            ("1m 30s", 90_000),
            ("1.5", 1500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "soon", "-1s", "-1", "nan", "inf"] {
            let reason = parse_duration(text).expect_err(text);
            assert!(reason.contains("write it like"), "{text}: {reason}");
        }
    }
}
