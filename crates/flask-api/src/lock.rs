//! The fault database-lock: somebody else, who holds the lock that every order needs.

use service::{Fault, Faults};
use sqlx::{ConnectOptions as _, Connection};

use crate::database::Database;

/// Holds the lock whenever the fault is active, on a connection of its own, as another program would.
pub(crate) async fn hold_when_told(database: Database, faults: Faults) {
    let Some(mut told) = faults.watch(Fault::DatabaseLock) else {
        return;
    };
    while told.wait_for(Option::is_some).await.is_ok() {
        let mut end = told.clone();
        let ended = async move {
            // Nobody is left to tell when this fails: then it is over too.
            let _ = end.wait_for(Option::is_none).await;
        };
        if let Err(error) = hold(&database, ended).await {
            tracing::warn!(error.message = %error, "the lock of the fault database-lock cannot be had");
            let _ = told.wait_for(Option::is_none).await;
        }
    }
}

/// Of either kind is a lock that leaves readers alone.
async fn hold(database: &Database, ended: impl Future<Output = ()>) -> Result<(), sqlx::Error> {
    match database {
        Database::Sqlite(options) => {
            let mut connection = options.connect().await?;
            let transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            tracing::warn!("the lock that every order needs is taken");
            ended.await;
            transaction.rollback().await?;
            connection.close().await
        }
        Database::Postgres(options) => {
            let mut connection = options.connect().await?;
            let mut transaction = connection.begin().await?;
            sqlx::query("LOCK TABLE products IN EXCLUSIVE MODE")
                .execute(&mut *transaction)
                .await?;
            tracing::warn!("the lock that every order needs is taken");
            ended.await;
            transaction.rollback().await?;
            connection.close().await
        }
    }
}
