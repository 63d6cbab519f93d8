//! Keeps what was received, across restarts.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Channel, Error, Message, Refusal, message::Notification};

/// So many messages and so many refusals are kept; the oldest go first.
pub const KEPT: usize = 2000;

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Message(Message),
    Refusal(Refusal),
}

/// Messages and refusals, in memory and in a file of JSON lines.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    file: File,
    lines: usize,
    next_id: u64,
    messages: VecDeque<Message>,
    refusals: VecDeque<Refusal>,
}

impl Store {
    /// Reads what an earlier run kept.
    ///
    /// # Errors
    /// When the file can be neither read nor made. A line that is no JSON, the last one of a run that was killed, is
    /// left out.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fault = |source| Error::Store {
            path: path.into(),
            source,
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(fault)?;
        }
        let (mut messages, mut refusals) = (VecDeque::new(), VecDeque::new());
        if path.exists() {
            for line in BufReader::new(File::open(path).map_err(fault)?).lines() {
                match serde_json::from_str(&line.map_err(fault)?) {
                    Ok(Line::Message(message)) => push(&mut messages, message),
                    Ok(Line::Refusal(refusal)) => push(&mut refusals, refusal),
                    Err(_) => {}
                }
            }
        }
        let last = messages.back().map(|it: &Message| it.id);
        let last = last.max(refusals.back().map(|it: &Refusal| it.id));
        let mut kept = Kept {
            file: open(path).map_err(fault)?,
            lines: 0,
            next_id: last.map_or(1, |id| id + 1),
            messages,
            refusals,
        };
        kept.rewrite(path).map_err(fault)?;
        Ok(Self {
            path: path.into(),
            kept: Mutex::new(kept),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, channel: Channel, it: Notification) -> Result<(), Error> {
        let mut kept = self.kept();
        let message = Message {
            id: kept.next_id,
            channel,
            receiver: it.receiver,
            status: it.status,
            alerts: it.alerts,
            received_at: Timestamp::now(),
            payload: it.payload,
        };
        self.write(&mut kept, Line::Message(message))
    }

    pub(crate) fn refuse(
        &self,
        channel: Channel,
        receiver: Option<&str>,
        (answer, reason): (u16, &str),
        payload: Value,
    ) -> Result<(), Error> {
        let mut kept = self.kept();
        let refusal = Refusal {
            id: kept.next_id,
            channel,
            receiver: receiver.map(str::to_owned),
            received_at: Timestamp::now(),
            answer,
            reason: reason.into(),
            payload,
        };
        self.write(&mut kept, Line::Refusal(refusal))
    }

    /// On disk before it is seen, so that nothing that was answered with yes is lost.
    fn write(&self, kept: &mut Kept, line: Line) -> Result<(), Error> {
        let fault = |source| Error::Store {
            path: self.path.clone(),
            source,
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| fault(error.into()))?;
        text.push(b'\n');
        kept.file.write_all(&text).map_err(fault)?;
        kept.lines += 1;
        kept.next_id += 1;
        match line {
            Line::Message(message) => push(&mut kept.messages, message),
            Line::Refusal(refusal) => push(&mut kept.refusals, refusal),
        }
        if kept.lines > 4 * KEPT {
            kept.rewrite(&self.path).map_err(fault)?;
        }
        Ok(())
    }

    /// What is wanted of messages, the latest first, without a copy of the others.
    pub(crate) fn newest<T>(
        &self,
        wanted: impl FnMut(&Message) -> Option<T>,
        most: usize,
    ) -> Vec<T> {
        let kept = self.kept();
        kept.messages
            .iter()
            .rev()
            .filter_map(wanted)
            .take(most)
            .collect()
    }

    /// Oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.kept().messages.iter().cloned().collect()
    }

    /// Oldest first.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.kept().refusals.iter().cloned().collect()
    }

    /// Forgets everything; numbers go on.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear(&self) -> Result<(), Error> {
        let mut kept = self.kept();
        kept.messages.clear();
        kept.refusals.clear();
        kept.rewrite(&self.path).map_err(|source| Error::Store {
            path: self.path.clone(),
            source,
        })
    }
}

impl Kept {
    /// The file holds exactly what is kept, or is what it was.
    fn rewrite(&mut self, path: &Path) -> std::io::Result<()> {
        let partial = path.with_extension("partial");
        let mut text = Vec::new();
        for message in &self.messages {
            serde_json::to_writer(&mut text, &Line::Message(message.clone()))?;
            text.push(b'\n');
        }
        for refusal in &self.refusals {
            serde_json::to_writer(&mut text, &Line::Refusal(refusal.clone()))?;
            text.push(b'\n');
        }
        std::fs::write(&partial, text)?;
        std::fs::rename(&partial, path)?;
        self.file = open(path)?;
        self.lines = self.messages.len() + self.refusals.len();
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn push<T>(kept: &mut VecDeque<T>, item: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(item);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Status;

    fn notification(alert: &str) -> Notification {
        Notification {
            receiver: "somebody".into(),
            status: Status::Firing,
            alerts: vec![alert.into()],
            payload: json!({}),
        }
    }

    #[test]
    fn what_was_taken_survives_a_restart_and_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/messages.jsonl");
        let store = Store::open(&path).unwrap();
        store.take(Channel::Slack, notification("A")).unwrap();
        store
            .refuse(Channel::Email, None, (550, "no"), Value::Null)
            .unwrap();
        let (messages, refusals) = (store.messages(), store.refusals());
        drop(store);
        open(&path).unwrap().write_all(b"{\"message\":{").unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.messages(), messages);
        assert_eq!(store.refusals(), refusals);
        store.take(Channel::Slack, notification("B")).unwrap();
        let ids: Vec<u64> = store.messages().iter().map(|it| it.id).collect();
        assert_eq!(ids, [1, 3]);
        store.clear().unwrap();
        assert_eq!(Store::open(&path).unwrap().messages(), []);
    }

    #[test]
    fn the_oldest_make_room_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.jsonl");
        let store = Store::open(&path).unwrap();
        for number in 0..5 * KEPT {
            store
                .take(Channel::Slack, notification(&number.to_string()))
                .unwrap();
        }
        let first = (4 * KEPT).to_string();
        assert_eq!(store.messages().len(), KEPT);
        assert_eq!(store.messages()[0].alerts, [first.as_str()]);
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 4 * KEPT, "{lines}");
        assert_eq!(Store::open(&path).unwrap().messages()[0].alerts, [first]);
    }
}
