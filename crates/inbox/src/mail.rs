//! What a mail tells.

use mail_parser::{Address, MessageParser, MimeHeaders as _};
use serde_json::json;

use crate::message::{Notification, of_title};

/// The header in which `alertmanager.yml` names the receiver.
const RECEIVER: &str = "X-Alertmanager-Receiver";

/// Reads a mail (RFC 5322) with the envelope that it came in; `Err` says what is missing.
pub(crate) fn read(from: &str, to: &[String], data: &[u8]) -> Result<Notification, &'static str> {
    let mail = MessageParser::default()
        .parse(data)
        .ok_or("no header at all")?;
    // RFC 5322, section 3.6: the only two fields that every mail has.
    if mail.date().is_none() {
        return Err("no Date field");
    }
    if mail.from().and_then(Address::first).is_none() {
        return Err("no From field");
    }
    let subject = mail.subject().unwrap_or_default();
    let (status, alerts) = of_title(subject);
    let receiver = match mail.header_raw(RECEIVER).map(str::trim) {
        Some(receiver) if !receiver.is_empty() => receiver.into(),
        _ => to.join(", "),
    };
    let part = |kind: &str| {
        // Looked for by type: the parser makes up the text of a page, and a page of a text.
        let mut parts = mail.parts.iter();
        let part = parts.find(|part| {
            let is = part.content_type();
            is.map_or(kind == "plain", |is| {
                is.ctype() == "text" && is.subtype().unwrap_or("plain") == kind
            })
        })?;
        part.text_contents().map(str::to_owned)
    };
    let (text, html) = (part("plain"), part("html"));
    let payload = json!({ "from": from, "to": to, "subject": subject, "text": text, "html": html });
    Ok(Notification {
        receiver,
        status,
        alerts,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::Status;

    const HEAD: &str =
        "From: a@example.org\r\nTo: b@example.org\r\nDate: Wed, 25 Nov 2026 08:00:00 +0000\r\n";

    fn mail(text: &str) -> Result<Notification, &'static str> {
        read("a@example.org", &["b@example.org".into()], text.as_bytes())
    }

    #[test]
    fn both_bodies_are_found() {
        let found = mail(&format!(
            "{HEAD}Subject: =?UTF-8?Q?[FIRING:1]_ServiceDown_=28payments=29?=\r\nX-Alertmanager-Receiver: email-shop\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
             --b\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n3 =3D three\r\n\
             --b\r\nContent-Type: text/html; charset=UTF-8\r\n\r\n<b>three</b>\r\n--b--\r\n"
        ))
        .unwrap();
        assert_eq!(
            (found.receiver.as_str(), found.status),
            ("email-shop", Status::Firing)
        );
        assert_eq!(found.alerts, ["ServiceDown"]);
        assert_eq!(found.payload["text"].as_str().unwrap().trim(), "3 = three");
        assert_eq!(
            found.payload["html"].as_str().unwrap().trim(),
            "<b>three</b>"
        );
    }

    #[test]
    fn one_body_is_enough() {
        let found = mail(&format!("{HEAD}Subject: hello\r\n\r\nworld\r\n")).unwrap();
        assert_eq!(found.receiver, "b@example.org");
        assert_eq!(found.payload["text"].as_str().unwrap().trim(), "world");
        assert_eq!(found.payload["html"], Value::Null);
        let found = mail(&format!(
            "{HEAD}Content-Type: text/html\r\n\r\n<b>a</b>\r\n"
        ))
        .unwrap();
        assert_eq!(found.payload["text"], Value::Null);
        assert_eq!(found.payload["html"].as_str().unwrap().trim(), "<b>a</b>");
    }

    #[test]
    fn what_every_mail_has_must_be_there() {
        assert_eq!(
            mail("From: a@example.org\r\n\r\nhello\r\n"),
            Err("no Date field")
        );
        assert_eq!(
            mail("Date: Wed, 25 Nov 2026 08:00:00 +0000\r\n\r\nhello\r\n"),
            Err("no From field")
        );
    }
}
