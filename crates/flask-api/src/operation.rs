//! What surrounds every operation on a database: a client span by OpenTelemetry's stable database
//! conventions, and a limit of time.

use std::io;
use std::time::Duration;

use tracing::field::{self, Empty};
use tracing::{Instrument, Span};

use crate::store::StoreError;

/// The database that operations are carried out on, as spans name it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `db.system.name`.
    pub system: &'static str,
    /// `db.namespace`: the name of the database, where there is one.
    pub namespace: Option<String>,
    /// `server.address`: host, or folder of a Unix socket.
    pub address: Option<String>,
    /// `server.port`.
    pub port: Option<u16>,
    /// How long an operation may take before its caller is told that there is no answer: the last
    /// resort, behind the database's own limits, for one that hangs.
    pub patience: Duration,
}

/// One operation: what its span says of it. A transaction is one operation, and its summary lists
/// the statements.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `db.operation.name`.
    pub name: &'static str,
    /// `db.collection.name`.
    pub collection: &'static str,
    /// `db.query.summary`.
    pub summary: &'static str,
}

impl Target {
    /// Carries out an operation inside a span of its own.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::Unavailable`] when it takes longer than the database's patience.
    pub async fn run<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let span = self.span(operation);
        let work = tokio::time::timeout(self.patience, work).instrument(span.clone());
        let result = match work.await {
            Ok(result) => result,
            Err(_) => Err(no_answer(self.patience)),
        };
        if let Err(error) = &result
            && let Some(fault) = error.fault()
        {
            span.record("error.type", &*fault);
            span.record("db.response.status_code", error.code().as_deref());
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", field::display(error));
        }
        result
    }

    fn span(&self, operation: Operation) -> Span {
        let Operation {
            name,
            collection,
            summary,
        } = operation;
        tracing::info_span!(
            "database",
            otel.name = format_args!("{name} {collection}"),
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            error.type = Empty,
            db.system.name = self.system,
            db.namespace = self.namespace,
            db.operation.name = name,
            db.collection.name = collection,
            db.query.summary = summary,
            db.response.status_code = Empty,
            server.address = self.address,
            // As i64: tracing-opentelemetry writes unsigned numbers as text.
            server.port = self.port.map(i64::from),
        )
    }
}

/// The database did not answer within `time`.
pub fn no_answer(time: Duration) -> StoreError {
    let reason = io::Error::new(
        io::ErrorKind::TimedOut,
        format!("it did not answer within {time:?}"),
    );
    StoreError::Unavailable(sqlx::Error::Io(reason))
}
