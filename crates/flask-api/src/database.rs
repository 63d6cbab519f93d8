//! From a database URL to a store.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::SqliteConnectOptions;

use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::store::Store;

/// A database URL that was understood. Neither `Debug` nor `Display` tell its password.
#[derive(Clone)]
pub enum Database {
    /// `sqlite://FILE`.
    Sqlite(SqliteConnectOptions),
    /// `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE`.
    Postgres(PgConnectOptions),
}

/// Why a database URL cannot be used. The URL is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// A database there is no store for.
    #[error(
        "{scheme}:// databases are not supported; use sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    Unsupported {
        /// What was asked for.
        scheme: String,
    },
    /// Not a database URL.
    #[error(
        "the database URL is not valid ({0}); use sqlite://FILE, for example sqlite://shop.db, or postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    Url(String),
    /// TLS, which this build does not speak to a database.
    #[error(
        "sslmode={0} is not supported: this build speaks no TLS to a database; use a Unix socket (?host=/FOLDER), a local TLS proxy, or sslmode=disable"
    )]
    Tls(&'static str),
}

/// Why a database cannot be used. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory of the file is missing.
    #[error("the directory {path} of the database does not exist; create it (mkdir -p {path}) or name another file in the database URL", path = .0.display())]
    NoDirectory(PathBuf),
    /// The file or its directory cannot be written.
    #[error("the database {} cannot be written ({source}); give this user write access to the file and its directory, or name another file in the database URL", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a database, or one of another program.
    #[error("the database {} cannot be opened ({source}); is it a database of this service?", path.display())]
    NoDatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The server does not answer.
    #[error(
        "the database {database} cannot be reached ({source}); start it, or name another one in the database URL"
    )]
    Unreachable {
        /// Which one.
        database: String,
        /// What happened.
        source: sqlx::Error,
    },
    /// The server answered that it will not let this service in.
    #[error(
        "the database {database} refuses this service ({source}); check user, password and database in the database URL"
    )]
    Refused {
        /// Which one.
        database: String,
        /// What PostgreSQL said.
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error(
        "the tables of {database} cannot be brought up to date ({source}); a newer version of this service may have written them, or this user may not create tables"
    )]
    Migrate {
        /// Which database.
        database: String,
        /// What went wrong.
        source: sqlx::migrate::MigrateError,
    },
}

impl Database {
    /// Opens the database with at most `connections` connections that read (SQLite has one more, to
    /// write), and creates or updates its tables. Replicas may do so at the same time.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, connections: u32) -> Result<Arc<dyn Store>, OpenError> {
        Ok(match self {
            Self::Sqlite(options) => Arc::new(SqliteStore::open(options, connections).await?),
            Self::Postgres(options) => Arc::new(PostgresStore::open(options, connections).await?),
        })
    }
}

impl FromStr for Database {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, UrlError> {
        match url.split_once(':') {
            Some(("sqlite", _)) => sqlite(url).map(Self::Sqlite),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                postgres(url).map(Self::Postgres)
            }
            Some((scheme, rest)) if rest.starts_with("//") => Err(UrlError::Unsupported {
                scheme: scheme.into(),
            }),
            _ => Err(UrlError::Url(
                "it starts with neither sqlite:// nor postgres://".into(),
            )),
        }
    }
}

/// sqlx wraps such errors in one another, each with the same words.
fn invalid(error: sqlx::Error) -> UrlError {
    UrlError::Url(error.to_string().replace("error with configuration: ", ""))
}

fn sqlite(url: &str) -> Result<SqliteConnectOptions, UrlError> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(UrlError::Url(
            "a database in memory cannot be shared between connections".into(),
        ));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(invalid)?;
    if options.get_filename().file_name().is_none() {
        return Err(UrlError::Url("it names no file".into()));
    }
    Ok(options)
}

fn postgres(url: &str) -> Result<PgConnectOptions, UrlError> {
    let options = PgConnectOptions::from_str(url).map_err(invalid)?;
    match options.get_ssl_mode() {
        PgSslMode::Require => Err(UrlError::Tls("require")),
        PgSslMode::VerifyCa => Err(UrlError::Tls("verify-ca")),
        PgSslMode::VerifyFull => Err(UrlError::Tls("verify-full")),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => Ok(options),
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "{}", options.get_filename().display()),
            Self::Postgres(options) => {
                let name = options.get_database().unwrap_or(options.get_username());
                match options.get_socket() {
                    Some(folder) => write!(f, "{name} at {}", folder.display()),
                    None => write!(f, "{name} at {}:{}", options.get_host(), options.get_port()),
                }
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}
