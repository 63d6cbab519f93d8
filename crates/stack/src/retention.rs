//! How long log lines are kept. `elk/lifecycle-policy.json` says it. Elsewhere Elasticsearch does what it says; the slim distribution of
//! a lab has no lifecycle management, so the lab does, and bounds the services' log files as well.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::{Span, SpanRelativeTo};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, Layout, install::hex, layout::set_aside_files};

const POLICY: &str = "elk/lifecycle-policy.json";

/// The names that the log routes write to. Behind each are indices of that name with a number.
const ALIASES: [&str; 2] = ["flask-logs", "flask-logs-dead-letter"];

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// The last line of a log file is looked for in this much of its end, more than the longest line that is shipped.
const END: u64 = 2 * 1024 * 1024;

/// What the policy says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// When the next index is begun, in Elasticsearch's words.
    rollover: Value,
    /// How old something becomes that is not written to any more.
    delete_after: Duration,
    pub(crate) limits: Limits,
}

/// What only a lab keeps to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Limits {
    /// All indices of log lines.
    indices_bytes: u64,
    /// A service's log file; then the next is begun.
    pub(crate) log_file_bytes: u64,
    /// All log files that are not written to any more.
    log_files_bytes: u64,
}

impl Policy {
    pub(crate) fn read(layout: &Layout) -> Result<Self, Error> {
        let path = layout.config(POLICY);
        let fault = |reason: String| Error::Policy {
            path: path.clone(),
            reason,
        };
        let text = std::fs::read(&path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let file: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let at = |pointer: &str| {
            file.pointer(pointer)
                .ok_or_else(|| format!("it has no {pointer}"))
        };
        let limits = Limits::deserialize(at("/policy/_meta/lab")?)
            .map_err(|error| format!("/policy/_meta/lab: {error}"))?;
        let min_age = at("/policy/phases/delete/min_age")?;
        let delete_after = min_age
            .as_str()
            .and_then(|age| age.parse::<Span>().ok())
            .and_then(|age| age.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
            .and_then(|age| Duration::try_from(age).ok())
            .ok_or_else(|| {
                format!("/policy/phases/delete/min_age is {min_age}, which is no time such as 7d")
            })?;
        Ok(Self {
            rollover: at("/policy/phases/hot/actions/rollover")?.clone(),
            delete_after,
            limits,
        })
    }
}

/// Looks after indices and files for as long as it is polled.
pub(crate) struct Retention<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) http: &'a reqwest::Client,
    /// Base URL; `None` when this lab stores no logs, and nobody waits for its files.
    pub(crate) elasticsearch: Option<String>,
    pub(crate) policy: Policy,
}

impl Retention<'_> {
    pub(crate) async fn keep(mut self) -> std::convert::Infallible {
        let mut delivered = HashSet::new();
        loop {
            // Files first: whether they have been read is told by documents, whose index may go next.
            self.files(&mut delivered).await;
            self.indices().await;
            tokio::time::sleep(EVERY).await;
            // Who edits the policy sees what comes of it; half an edit changes nothing.
            if let Ok(policy) = Policy::read(self.layout) {
                self.policy = policy;
            }
        }
    }

    /// Deletes log files that are too old or too much, unless there is a line in them that the shipper has not read.
    async fn files(&self, delivered: &mut HashSet<PathBuf>) {
        let files = set_aside_files(&self.layout.app_logs());
        delivered.retain(|path| files.iter().any(|file| &file.path == path));
        for file in &files {
            if !delivered.contains(&file.path) && self.is_delivered(&file.path).await {
                delivered.insert(file.path.clone());
            }
        }
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            let age = SystemTime::now().duration_since(file.modified);
            let due = age.is_ok_and(|age| age > self.policy.delete_after)
                || total > self.policy.limits.log_files_bytes;
            if due && delivered.contains(&file.path) && std::fs::remove_file(&file.path).is_ok() {
                total -= file.bytes;
            }
        }
    }

    /// Whether the file's last line is a document. The shipper reads a file from its beginning, so it has read the rest too; what
    /// is on its way is in its queue on disk.
    async fn is_delivered(&self, path: &Path) -> bool {
        let Some(elasticsearch) = &self.elasticsearch else {
            return true;
        };
        let Some(id) = last_document(path) else {
            return false;
        };
        let url = format!("{elasticsearch}/{}-*/_count", ALIASES[0]);
        let query = json!({ "query": { "ids": { "values": [id] } } });
        self.ask(self.http.post(url).json(&query))
            .await
            .is_some_and(|answer| answer["count"].as_u64() > Some(0))
    }

    /// Begins the next index when the policy says so, and deletes those that are too old or too much.
    async fn indices(&self) {
        let Some(elasticsearch) = &self.elasticsearch else {
            return;
        };
        for alias in ALIASES {
            let request = self
                .http
                .post(format!("{elasticsearch}/{alias}/_rollover"))
                .json(&json!({ "conditions": self.policy.rollover }));
            self.ask(request).await;
        }
        let url = format!(
            "{elasticsearch}/_cat/indices/{}-*?format=json&bytes=b&h=index,creation.date,store.size",
            ALIASES[0]
        );
        let Some(answer) = self.ask(self.http.get(url)).await else {
            return;
        };
        let indices = answer.as_array().into_iter().flatten();
        let indices: Vec<Index> = indices.filter_map(Index::of).collect();
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        for name in self.policy.due(indices, now) {
            self.ask(self.http.delete(format!("{elasticsearch}/{name}")))
                .await;
        }
    }

    /// A good answer; there is none while Elasticsearch is away, and then the next look comes.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Option<Value> {
        let answer = request.send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Index {
    name: String,
    /// What stands before its number.
    alias: String,
    /// Since 1970.
    created: Duration,
    bytes: u64,
}

impl Index {
    fn of(row: &Value) -> Option<Self> {
        let name = row["index"].as_str()?;
        let (alias, number) = name.rsplit_once('-')?;
        let known = ALIASES.contains(&alias) && number.bytes().all(|it| it.is_ascii_digit());
        let created = row["creation.date"].as_str()?.parse().ok()?;
        known.then_some(Self {
            name: name.into(),
            alias: alias.into(),
            created: Duration::from_millis(created),
            // None yet in the first moments.
            bytes: row["store.size"].as_str().unwrap_or("0").parse().ok()?,
        })
    }
}

impl Policy {
    /// The indices to delete. An index is as old as its successor, which began when it ended; one without is being written to.
    fn due(&self, mut indices: Vec<Index>, now: Duration) -> Vec<String> {
        let mut total: u64 = indices.iter().map(|index| index.bytes).sum();
        indices.sort_by(|a, b| a.name.cmp(&b.name));
        let mut by_alias = BTreeMap::<String, Vec<Index>>::new();
        for index in indices {
            by_alias.entry(index.alias.clone()).or_default().push(index);
        }
        let mut ended: Vec<(Duration, &Index)> = by_alias
            .values()
            .flat_map(|of_alias| of_alias.windows(2))
            .filter_map(|pair| Some((pair.last()?.created, pair.first()?)))
            .collect();
        ended.sort_by_key(|(end, _)| *end);
        let mut due = Vec::new();
        for (end, index) in ended {
            if now.saturating_sub(end) > self.delete_after || total > self.limits.indices_bytes {
                total -= index.bytes;
                due.push(index.name.clone());
            }
        }
        due
    }
}

/// The name of the document that the last whole line of a log file becomes, which is made as in `elk/otel-collector.yaml`.
fn last_document(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(END);
    let mut end = vec![0; usize::try_from(length - from).ok()?];
    file.read_exact_at(&mut end, from).ok()?;
    // Without what was written when the process was killed, and what is no line of ours: these are named otherwise.
    let whole = end.iter().rposition(|byte| *byte == b'\n')?;
    let mut start = whole + 1;
    let line = end[..whole].rsplit(|byte| *byte == b'\n').find(|line| {
        start -= line.len() + 1;
        line.starts_with(b"{")
    })?;
    let name = path.file_name()?.to_str()?;
    let name = name.split_once(".log").map(|(stem, _)| stem)?;
    let mut hash = Sha256::new();
    hash.update(format!("{name}.log {} ", from + u64::try_from(start).ok()?));
    hash.update(line.trim_ascii_end());
    Some(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::is_set_aside;

    const TEXT: &str = include_str!("../../../elk/lifecycle-policy.json");

    fn policy() -> Policy {
        Policy {
            delete_after: Duration::from_secs(100),
            limits: Limits {
                indices_bytes: 100,
                log_file_bytes: 10,
                log_files_bytes: 20,
            },
            ..Policy::parse(TEXT.as_bytes()).unwrap()
        }
    }

    fn index(alias: &str, number: u32, created: u64, bytes: u64) -> Index {
        Index {
            name: format!("{alias}-{number:06}"),
            alias: alias.into(),
            created: Duration::from_secs(created),
            bytes,
        }
    }

    #[test]
    fn the_committed_policy_is_understood() {
        let policy = Policy::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(policy.delete_after, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(policy.rollover["max_age"], "1d");
        // All of a rolled index, and the next, fit.
        assert!(policy.limits.indices_bytes > 2 * 256 * 1024 * 1024);
        assert!(policy.limits.log_files_bytes > policy.limits.log_file_bytes);
    }

    #[test]
    fn says_what_is_wrong() {
        for (from, to, reason) in [
            ("7d", "a week", "min_age is \"a week\""),
            (
                "indices_bytes",
                "index_bytes",
                "missing field `indices_bytes`",
            ),
            (
                "\"rollover\"",
                "\"roll\"",
                "/policy/phases/hot/actions/rollover",
            ),
            ("{", "", "line 2 column"),
        ] {
            let error = Policy::parse(TEXT.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn deletes_the_old_then_the_oldest_never_the_one_that_is_written_to() {
        let due = |indices: &[Index], now| policy().due(indices.to_vec(), Duration::from_secs(now));
        let (logs, dead) = ("flask-logs", "flask-logs-dead-letter");
        let young = [
            index(logs, 2, 50, 10),
            index(logs, 1, 0, 10),
            index(dead, 1, 0, 10),
        ];
        // Its successor began at 50.
        assert_eq!(due(&young, 150), Vec::<String>::new());
        assert_eq!(due(&young, 151), ["flask-logs-000001"]);
        // However large or old it is.
        assert!(due(&[index(logs, 7, 0, 1000)], 10_000).is_empty());
        let large = [
            index(logs, 1, 0, 40),
            index(dead, 1, 5, 40),
            index(dead, 2, 10, 1),
            index(logs, 2, 20, 40),
            index(logs, 3, 30, 40),
        ];
        assert_eq!(
            due(&large, 40),
            ["flask-logs-dead-letter-000001", "flask-logs-000001"]
        );
    }

    #[test]
    fn takes_no_other_index() {
        let row = |name: &str| json!({ "index": name, "creation.date": "5", "store.size": "7" });
        assert!(Index::of(&row("flask-logs-000001")).is_some());
        for other in ["flask-logs-2026.01.31", "flask-logs-x", "other-000001"] {
            assert_eq!(Index::of(&row(other)), None);
        }
        let fresh =
            json!({ "index": "flask-logs-000001", "creation.date": "5", "store.size": null });
        assert_eq!(Index::of(&fresh).unwrap().bytes, 0);
    }

    #[test]
    fn names_the_last_whole_line_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("payments.log.3");
        let id = |text: &str| {
            std::fs::write(&path, text).unwrap();
            last_document(&path)
        };
        let expected = hex(&Sha256::digest("payments.log 8 {\"b\":2}"));
        assert_eq!(id("{\"a\":1}\n{\"b\":2}\n"), Some(expected.clone()));
        assert_eq!(
            id("{\"a\":1}\n{\"b\":2}\nthread panicked\n{\"c\":"),
            Some(expected)
        );
        assert_eq!(
            id("{\"a\":1}\n"),
            Some(hex(&Sha256::digest("payments.log 0 {\"a\":1}")))
        );
        assert_eq!(id("nothing of ours\n"), None);
        assert_eq!(id(""), None);
        assert!(is_set_aside(&path));
    }
}
