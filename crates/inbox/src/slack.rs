//! Slack's incoming webhooks, as strict as Slack.
//!
//! Source: Slack's documentation of incoming webhooks, "Handling errors", and its reference of message payloads. The answer is
//! plain text: `ok`, or one word that names the mistake.

use serde_json::{Map, Value};

use crate::message::{Notification, of_title};

/// A status code and a word.
pub(crate) type Answer = (u16, &'static str);

pub(crate) const OK: &str = "ok";
pub(crate) const RATE_LIMITED: Answer = (429, "rate_limited");
pub(crate) const BROKEN: Answer = (500, "rollup_error");

const INVALID: Answer = (400, "invalid_payload");
const ATTACHMENTS: usize = 100;
const BLOCKS: usize = 50;
/// Characters; Slack cuts what is longer, and a cut alert is a lost one.
const TEXT: usize = 40_000;

/// The status code that goes with the word for a webhook that is not one.
pub(crate) fn unknown(word: &'static str) -> Answer {
    (if word == "no_service" { 404 } else { 403 }, word)
}

/// What the body of a request tells.
pub(crate) fn read(receiver: &str, body: &[u8]) -> Result<Notification, Answer> {
    let payload: Value = serde_json::from_slice(body).map_err(|_| INVALID)?;
    let message = payload.as_object().ok_or(INVALID)?;
    let text = string(message, "text")?;
    let attachments = objects(message, "attachments")?;
    let blocks = objects(message, "blocks")?;
    for field in ["channel", "username", "icon_emoji", "icon_url"] {
        string(message, field)?;
    }
    if text.is_empty() && attachments.is_empty() && blocks.is_empty() {
        return Err((400, "no_text"));
    }
    if attachments.len() > ATTACHMENTS {
        return Err((400, "too_many_attachments"));
    }
    if blocks.len() > BLOCKS || blocks.iter().any(|block| !block.contains_key("type")) {
        return Err((400, "invalid_blocks"));
    }
    let mut length = text.chars().count();
    for attachment in &attachments {
        for field in [
            "title",
            "title_link",
            "pretext",
            "text",
            "fallback",
            "footer",
            "color",
            "callback_id",
        ] {
            length += string(attachment, field)?.chars().count();
        }
        for field in objects(attachment, "fields")? {
            length +=
                string(field, "title")?.chars().count() + string(field, "value")?.chars().count();
        }
        for action in objects(attachment, "actions")? {
            if string(action, "type")?.is_empty() || string(action, "text")?.is_empty() {
                return Err(INVALID);
            }
        }
    }
    if length > TEXT {
        return Err((400, "msg_too_long"));
    }
    let title = match attachments.first() {
        Some(attachment) => string(attachment, "title")?,
        None => text,
    };
    let (status, alerts) = of_title(title);
    Ok(Notification {
        receiver: receiver.into(),
        status,
        alerts,
        payload,
    })
}

fn string<'a>(of: &'a Map<String, Value>, field: &str) -> Result<&'a str, Answer> {
    match of.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(INVALID),
    }
}

fn objects<'a>(
    of: &'a Map<String, Value>,
    field: &str,
) -> Result<Vec<&'a Map<String, Value>>, Answer> {
    match of.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_object().ok_or(INVALID))
            .collect(),
        Some(_) => Err(INVALID),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Status;

    fn answer(payload: &Value) -> Result<Notification, Answer> {
        read("slack-shop", payload.to_string().as_bytes())
    }

    #[test]
    fn takes_what_slack_takes() {
        let found = answer(&json!({ "text": "hello" })).unwrap();
        assert_eq!((found.status, found.alerts.len()), (Status::Firing, 0));
        let attachment = json!({
            "title": "[RESOLVED] ServiceDown (payments)", "title_link": "http://a", "text": "", "fallback": "", "callback_id": "",
            "footer": "", "color": "good", "fields": [{ "title": "a", "value": "b", "short": true }],
            "actions": [{ "type": "button", "text": "Runbook", "url": "http://b" }], "mrkdwn_in": ["text"]
        });
        let found = answer(&json!({ "channel": "#shop", "attachments": [attachment] })).unwrap();
        assert_eq!(found.status, Status::Resolved);
        assert_eq!(found.alerts, ["ServiceDown"]);
        assert_eq!(found.receiver, "slack-shop");
        assert!(
            answer(&json!({ "attachments": vec![json!({ "text": "a" }); ATTACHMENTS] })).is_ok()
        );
    }

    #[test]
    fn refuses_what_slack_refuses() {
        let cases = [
            (json!({}), "no_text"),
            (json!({ "text": "" }), "no_text"),
            (json!({ "attachments": [] }), "no_text"),
            (json!([]), "invalid_payload"),
            (json!({ "text": 1 }), "invalid_payload"),
            (json!({ "text": "a", "channel": {} }), "invalid_payload"),
            (json!({ "attachments": {} }), "invalid_payload"),
            (json!({ "attachments": ["a"] }), "invalid_payload"),
            (
                json!({ "attachments": [{ "title": [] }] }),
                "invalid_payload",
            ),
            (
                json!({ "attachments": [{ "actions": [{ "type": "button" }] }] }),
                "invalid_payload",
            ),
            (
                json!({ "attachments": vec![json!({}); ATTACHMENTS + 1] }),
                "too_many_attachments",
            ),
            (json!({ "blocks": [{}] }), "invalid_blocks"),
            (json!({ "text": "é".repeat(TEXT + 1) }), "msg_too_long"),
        ];
        for (payload, word) in cases {
            assert_eq!(answer(&payload).unwrap_err(), (400, word), "{payload}");
        }
        assert_eq!(read("a", b"{").unwrap_err(), INVALID);
        assert_eq!(unknown("no_service").0, 404);
        assert_eq!(unknown("invalid_token").0, 403);
    }
}
