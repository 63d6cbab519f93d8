//! PagerDuty's Events API v2, as strict as PagerDuty.
//!
//! Source: PagerDuty's OpenAPI description of the Events API v2 (required fields, allowed values, status codes) and its
//! "Send an alert event" (sizes). Every mistake of an event is told in one answer.

use serde_json::{Map, Value, json};

use crate::{Status, message::Notification, receivers::Receivers};

/// Bytes of an event at most.
pub(crate) const EVENT: usize = 512 * 1024;
const KEY: usize = 32;
const DEDUP_KEY: usize = 255;
const SUMMARY: usize = 1024;

/// Status code and body.
pub(crate) type Answer = (u16, Value);

pub(crate) fn rate_limited() -> Answer {
    (
        429,
        json!({ "status": "throttle exceeded", "message": "Requests for this service are arriving too quickly. Please retry later." }),
    )
}

pub(crate) fn broken() -> Answer {
    (
        500,
        json!({ "status": "internal server error", "message": "The event could not be processed" }),
    )
}

pub(crate) fn too_large() -> Answer {
    (
        413,
        json!({ "status": "event too large", "message": "Event object exceeds 512 KB" }),
    )
}

/// What the body of a request tells, with the answer to it.
pub(crate) fn read(body: &[u8], receivers: &Receivers) -> Result<(Notification, Answer), Answer> {
    if body.len() > EVENT {
        return Err(too_large());
    }
    let unrecognised = || {
        let message = "Event object format is unrecognized";
        (
            400,
            json!({ "status": "Unrecognized object", "message": message, "errors": ["JSON parse error"] }),
        )
    };
    let mut payload: Value = serde_json::from_slice(body).map_err(|_| unrecognised())?;
    let event = payload.as_object_mut().ok_or_else(unrecognised)?;
    let mut errors = Vec::new();
    let receiver = match text(event, "routing_key") {
        "" => {
            errors.push("'routing_key' is missing or blank".into());
            None
        }
        key if key.chars().count() != KEY => {
            errors.push(format!(
                "Length of 'routing_key' is incorrect (should be {KEY} characters)"
            ));
            None
        }
        key => {
            let receiver = receivers.of_key(key);
            if receiver.is_none() {
                errors.push("Invalid routing key".into());
            }
            receiver
        }
    };
    check(event, &mut errors);
    if let (Some(receiver), true) = (receiver, errors.is_empty()) {
        let status = if text(event, "event_action") == "resolve" {
            Status::Resolved
        } else {
            Status::Firing
        };
        let class = event.get("payload").map(|payload| &payload["class"]);
        let alerts = class.and_then(Value::as_str).filter(|it| !it.is_empty());
        let alerts = alerts.map(str::to_owned).into_iter().collect();
        // It lets in whoever knows it.
        event.remove("routing_key");
        let dedup_key = event.get("dedup_key").cloned().unwrap_or_default();
        let answer =
            json!({ "status": "success", "message": "Event processed", "dedup_key": dedup_key });
        let notification = Notification {
            receiver,
            status,
            alerts,
            payload,
        };
        return Ok((notification, (202, answer)));
    }
    Err((
        400,
        json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors }),
    ))
}

fn check(event: &Map<String, Value>, errors: &mut Vec<String>) {
    let blank = |field: &str| format!("'{field}' is missing or blank");
    let action = text(event, "event_action");
    match action {
        "" => errors.push(blank("event_action")),
        "trigger" | "acknowledge" | "resolve" => {}
        _ => errors.push(
            "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')".into(),
        ),
    }
    match text(event, "dedup_key") {
        "" if action != "trigger" => errors.push(blank("dedup_key")),
        key if key.chars().count() > DEDUP_KEY => errors.push(format!(
            "Length of 'dedup_key' is incorrect (should be at most {DEDUP_KEY} characters)"
        )),
        _ => {}
    }
    match event.get("payload") {
        None | Some(Value::Null) if action == "trigger" => errors.push(blank("payload")),
        None | Some(Value::Null) => {}
        Some(Value::Object(payload)) => {
            match text(payload, "summary") {
                "" => errors.push(blank("payload.summary")),
                summary if summary.chars().count() > SUMMARY => errors.push(format!(
                    "Length of 'payload.summary' is incorrect (should be at most {SUMMARY} characters)"
                )),
                _ => {}
            }
            if text(payload, "source").is_empty() {
                errors.push(blank("payload.source"));
            }
            match text(payload, "severity") {
                "critical" | "warning" | "error" | "info" => {}
                _ => errors.push(
                    "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')".into(),
                ),
            }
            if payload
                .get("custom_details")
                .is_some_and(|details| !details.is_object() && !details.is_null())
            {
                errors.push("'payload.custom_details' is not an object".into());
            }
        }
        Some(_) => errors.push("'payload' is not an object".into()),
    }
    for (list, required) in [("links", "href"), ("images", "src")] {
        let items = event
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for (number, item) in items.enumerate() {
            if item[required].as_str().is_none_or(str::is_empty) {
                errors.push(blank(&format!("{list}[{number}].{required}")));
            }
        }
    }
}

fn text<'a>(of: &'a Map<String, Value>, field: &str) -> &'a str {
    of.get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn answer(event: &Value) -> Result<(Notification, Answer), Answer> {
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(
            secrets.path().join("pagerduty-first"),
            format!("{SECRET}\n"),
        )
        .unwrap();
        let receivers = Receivers::new(secrets.path()).unwrap();
        read(event.to_string().as_bytes(), &receivers)
    }

    fn event() -> Value {
        json!({
            "routing_key": SECRET, "event_action": "trigger", "dedup_key": "k", "client": "Alertmanager",
            "payload": { "summary": "s", "source": "flask-api", "severity": "critical", "class": "ServiceDown", "custom_details": {} },
            "links": [{ "href": "http://a", "text": "b" }], "images": []
        })
    }

    #[test]
    fn takes_what_pagerduty_takes() {
        let (found, (status, body)) = answer(&event()).unwrap();
        assert_eq!(
            (found.receiver.as_str(), found.status),
            ("first", Status::Firing)
        );
        assert_eq!(found.alerts, ["ServiceDown"]);
        assert_eq!(status, 202);
        assert_eq!(
            body,
            json!({ "status": "success", "message": "Event processed", "dedup_key": "k" })
        );
        assert!(!found.payload.to_string().contains(SECRET));
        let mut end = event();
        end["event_action"] = "resolve".into();
        assert_eq!(answer(&end).unwrap().0.status, Status::Resolved);
    }

    #[test]
    fn tells_every_mistake_of_an_event_at_once() {
        let cases: [(&str, Value, &str); 11] = [
            (
                "/routing_key",
                Value::Null,
                "'routing_key' is missing or blank",
            ),
            (
                "/routing_key",
                "short".into(),
                "Length of 'routing_key' is incorrect (should be 32 characters)",
            ),
            ("/routing_key", "f".repeat(32).into(), "Invalid routing key"),
            ("/event_action", "fire".into(), "'event_action' is invalid"),
            (
                "/dedup_key",
                "k".repeat(256).into(),
                "Length of 'dedup_key'",
            ),
            ("/payload", Value::Null, "'payload' is missing or blank"),
            (
                "/payload/summary",
                "s".repeat(1025).into(),
                "Length of 'payload.summary'",
            ),
            (
                "/payload/source",
                " ".into(),
                "'payload.source' is missing or blank",
            ),
            (
                "/payload/severity",
                "page".into(),
                "'payload.severity' is invalid",
            ),
            (
                "/payload/custom_details",
                "a".into(),
                "'payload.custom_details' is not an object",
            ),
            (
                "/links/0/href",
                Value::Null,
                "'links[0].href' is missing or blank",
            ),
        ];
        for (field, value, error) in cases {
            let mut wrong = event();
            *wrong.pointer_mut(field).unwrap() = value;
            let (status, body) = answer(&wrong).unwrap_err();
            assert_eq!((status, &body["status"]), (400, &json!("invalid event")));
            let errors = body["errors"].as_array().unwrap();
            assert_eq!(errors.len(), 1, "{field}: {errors:?}");
            assert!(
                errors[0].as_str().unwrap().starts_with(error),
                "{field}: {errors:?}"
            );
        }
        let nothing = answer(&json!({})).unwrap_err().1;
        assert_eq!(nothing["errors"].as_array().unwrap().len(), 3, "{nothing}");
        let resolve = json!({ "routing_key": SECRET, "event_action": "resolve" });
        assert_eq!(
            answer(&resolve).unwrap_err().1["errors"],
            json!(["'dedup_key' is missing or blank"])
        );
    }

    #[test]
    fn what_is_no_event_has_answers_of_its_own() {
        let secrets = tempfile::tempdir().unwrap();
        let receivers = Receivers::new(secrets.path()).unwrap();
        for body in [&b"{"[..], b"[]", b""] {
            let (status, answer) = read(body, &receivers).unwrap_err();
            assert_eq!(
                (status, &answer["errors"]),
                (400, &json!(["JSON parse error"]))
            );
        }
        assert_eq!(read(&vec![b' '; EVENT + 1], &receivers).unwrap_err().0, 413);
    }
}
