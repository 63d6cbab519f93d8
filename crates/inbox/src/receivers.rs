//! Who can be notified: read from the very secret files that Alertmanager reads.

use std::path::Path;

use crate::Error;

/// The receivers that have a secret, and the secret.
///
/// A file `slack-<team>` holds the address of an incoming webhook and has its receiver's name; `pagerduty-<receiver>` holds an
/// integration key. Read anew for each request: a person may change a file to see what happens.
#[derive(Debug, Clone)]
pub struct Receivers {
    secrets: std::path::PathBuf,
}

impl Receivers {
    /// Those of a directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(secrets: &Path) -> Result<Self, Error> {
        std::fs::read_dir(secrets).map_err(|source| Error::Secrets {
            path: secrets.into(),
            source,
        })?;
        Ok(Self {
            secrets: secrets.into(),
        })
    }

    /// The receiver with this integration key.
    pub(crate) fn of_key(&self, key: &str) -> Option<String> {
        let key = key.as_bytes();
        self.all("pagerduty-")
            .find(|(_, secret)| secret.trim().as_bytes() == key)
            .map(|(name, _)| name.trim_start_matches("pagerduty-").to_owned())
    }

    /// What to answer to a request for this webhook: its receiver's name, or what Slack says.
    pub(crate) fn of_webhook(&self, name: &str, path: &str) -> Result<String, &'static str> {
        let mut all = self.all("slack-");
        match all.find(|(receiver, _)| receiver == name) {
            None => Err("no_service"),
            // The address is the secret.
            Some((receiver, address)) if address.trim().ends_with(path) => Ok(receiver),
            Some(_) => Err("invalid_token"),
        }
    }

    fn all(&self, start: &'static str) -> impl Iterator<Item = (String, String)> + use<> {
        let files = std::fs::read_dir(&self.secrets).into_iter().flatten();
        files.filter_map(move |file| {
            let file = file.ok()?;
            let name = file.file_name().into_string().ok()?;
            name.starts_with(start)
                .then(|| Some((name, std::fs::read_to_string(file.path()).ok()?)))?
        })
    }
}
