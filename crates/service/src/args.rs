//! Flags and settings of a server.

use std::{fmt::Debug, marker::PhantomData, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{Error, Token, tls::CertificateFiles};

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
    #[arg(long, value_name = "FILE", env = P::TLS_CERTIFICATE_ENV)]
    pub tls_certificate: Option<PathBuf>,

    /// The private key that belongs to it (PEM)
    #[arg(long, value_name = "FILE", env = P::TLS_KEY_ENV)]
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

    /// Lets faults be started with the token in this file, at /chaos of the admin port and by the
    /// header X-Fault on a request; without it there are none
    #[arg(long, value_name = "FILE", env = "CHAOS_TOKEN_FILE")]
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
