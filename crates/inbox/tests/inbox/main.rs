//! The stand-ins over the wire: what they answer, keep, show and refuse.
#![cfg(test)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::HttpResponse;
use inbox::{Args, Site, StandIns};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A site of nothing but the inbox.
fn site() -> Site {
    Site {
        frame: |part| {
            HttpResponse::Ok()
                .content_type("text/html; charset=utf-8")
                .insert_header(("area", format!("{:?}", part.area)))
                .body(part.main.into_string())
        },
        routes: Arc::new(|_| {}),
    }
}

struct Running {
    dir: TempDir,
    http: SocketAddr,
    smtp: SocketAddr,
    client: Client,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn args(dir: &TempDir) -> Args {
    let any = "127.0.0.1:0".parse().unwrap();
    Args {
        listen: any,
        smtp_listen: any,
        store: dir.path().join("messages.jsonl"),
        secrets: dir.path().join("secrets"),
        docs: Some(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")),
        silence: 600,
        hosts: vec!["inbox.example".into()],
    }
}

impl Running {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("secrets")).unwrap();
        Self::start_in(dir)
    }

    fn start_in(dir: TempDir) -> Self {
        let stand_ins = StandIns::bind(args(&dir)).unwrap();
        let (http, smtp) = (
            stand_ins.http_address().unwrap(),
            stand_ins.smtp_address().unwrap(),
        );
        let secret = |name: &str, text: &str| {
            std::fs::write(dir.path().join("secrets").join(name), text).unwrap();
        };
        secret(
            "slack-shop",
            &format!("http://{http}/inbox/slack/services/T/slack-shop/token\n"),
        );
        secret("pagerduty-oncall-first", &format!("{KEY}\n"));
        let task = tokio::task::spawn_local(async { stand_ins.run(site()).await.unwrap() });
        Self {
            dir,
            http,
            smtp,
            client: Client::new(),
            task,
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.http));
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let answer = self.send(Method::POST, path, Some(body)).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn all(&self) -> Value {
        self.messages("").await
    }

    async fn messages(&self, query: &str) -> Value {
        let path = format!("/inbox/api/messages{query}");
        self.send(Method::GET, &path, None)
            .await
            .json()
            .await
            .unwrap()
    }

    async fn trouble(&self, channel: &str, trouble: Option<&str>) {
        let body = json!({ "channel": channel, "trouble": trouble });
        let answer = self
            .send(Method::PUT, "/inbox/api/behaviour", Some(&body))
            .await;
        assert_eq!(answer.status(), 200);
    }

    /// Says lines to the mail server and gives the last line of each answer.
    async fn smtp(&self, lines: &[&str]) -> Vec<String> {
        let address = self.smtp;
        let lines: Vec<String> = lines.iter().map(|it| (*it).to_owned()).collect();
        tokio::task::spawn_blocking(move || talk(address, &lines))
            .await
            .unwrap()
    }
}

fn talk(address: SocketAddr, lines: &[String]) -> Vec<String> {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut answer = || {
        loop {
            let mut line = String::new();
            let read = reader.read_line(&mut line).unwrap_or(0);
            if read == 0 {
                return "closed".to_owned();
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return line.trim_end().to_owned();
            }
        }
    };
    let mut answers = vec![answer()];
    for line in lines {
        if writer.write_all(format!("{line}\r\n").as_bytes()).is_err() {
            answers.push("closed".into());
            break;
        }
        answers.push(answer());
    }
    answers
}

/// Servers of actix live on one thread.
fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

const SLACK: &str = "/inbox/slack/services/T/slack-shop/token";
const PAGERDUTY: &str = "/inbox/pagerduty/v2/enqueue";

fn event() -> Value {
    json!({
        "routing_key": KEY, "event_action": "trigger", "dedup_key": "k",
        "payload": { "summary": "s", "source": "a", "severity": "critical", "class": "ServiceDown" }
    })
}

const MAIL: &[&str] = &[
    "EHLO test",
    "MAIL FROM:<a@example.org>",
    "RCPT TO:<b@example.org>",
    "DATA",
    "From: a@example.org\r\nTo: b@example.org\r\nDate: Wed, 25 Nov 2026 08:00:00 +0000\r\nSubject: [FIRING:1] NoTraffic (payments)\r\n\r\n..hello\r\n.",
];

#[test]
fn what_is_sent_is_kept_with_whom_it_was_for() {
    run(async || {
        let it = Running::start();
        let slack = json!({ "attachments": [{ "title": "[FIRING:1] HighErrorRate (flask-api)", "text": "x" }] });
        assert_eq!(it.post(SLACK, &slack).await, (200, "ok".into()));
        let (status, answer) = it.post(PAGERDUTY, &event()).await;
        assert_eq!(status, 202, "{answer}");
        let answers = it.smtp(MAIL).await;
        let codes: Vec<&str> = answers.iter().map(|it| &it[..3]).collect();
        assert_eq!(
            codes,
            ["220", "250", "250", "250", "354", "250"],
            "{answers:?}"
        );

        let all = it.all().await;
        let found: Vec<(&str, &str, &str)> = all["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                let text = |field: &str| it[field].as_str().unwrap();
                (
                    text("channel"),
                    text("receiver"),
                    it["alerts"][0].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("slack", "slack-shop", "HighErrorRate"),
                ("pagerduty", "oncall-first", "ServiceDown"),
                ("email", "b@example.org", "NoTraffic"),
            ]
        );
        // A dot at the start of a line is doubled on the way (RFC 5321, section 4.5.2).
        assert_eq!(
            all["messages"][2]["payload"]["text"]
                .as_str()
                .unwrap()
                .trim(),
            ".hello"
        );
        assert!(!all.to_string().contains(KEY));
        let of = async |query: &str| {
            it.messages(query).await["messages"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(of("?channel=slack").await, 1);
        assert_eq!(
            of("?receiver=oncall-first&status=firing&alert=ServiceDown").await,
            1
        );
        assert_eq!(of("?status=resolved").await, 0);
        assert_eq!(of("?after=1").await, 2);
        assert_eq!(
            it.send(Method::GET, "/inbox/api/messages?chanel=slack", None)
                .await
                .status(),
            400
        );
    });
}

#[test]
fn what_a_provider_would_refuse_is_refused_in_its_words_and_shown() {
    run(async || {
        let it = Running::start();
        let hello = json!({ "text": "hello" });
        assert_eq!(it.post(SLACK, &json!({})).await, (400, "no_text".into()));
        assert_eq!(
            it.post("/inbox/slack/services/T/slack-shop/guess", &hello)
                .await,
            (403, "invalid_token".into())
        );
        assert_eq!(
            it.post("/inbox/slack/services/T/slack-nobody/token", &hello)
                .await,
            (404, "no_service".into())
        );
        let mut wrong = event();
        wrong["payload"]["severity"] = "page".into();
        wrong["payload"]["source"] = Value::Null;
        let (status, answer) = it.post(PAGERDUTY, &wrong).await;
        assert_eq!(status, 400);
        assert!(
            answer.contains("'payload.source' is missing or blank")
                && answer.contains("'payload.severity' is invalid"),
            "{answer}"
        );
        assert_eq!(
            it.post("/inbox/webhook/dead-mans-switch", &json!({}))
                .await
                .0,
            400
        );

        let answers = it
            .smtp(&[
                "MAIL FROM:<a@example.org>",
                "EHLO test",
                "RCPT TO:<b@example.org>",
                "DATA",
                "HELLO",
                "MAIL FROM:<a@example.org>",
                "RCPT TO:<b@example.org>",
                "DATA",
                "Subject: no date\r\n\r\nhello\r\n.",
                "QUIT",
            ])
            .await;
        let codes: Vec<&str> = answers.iter().map(|it| &it[..3]).collect();
        assert_eq!(
            codes,
            [
                "220", "503", "250", "503", "503", "500", "250", "250", "354", "550", "221"
            ],
            "{answers:?}"
        );

        let all = it.all().await;
        assert_eq!(all["messages"], json!([]));
        let refused: Vec<(&str, u64)> = all["refused"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                (
                    it["channel"].as_str().unwrap(),
                    it["answer"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            refused,
            [
                ("slack", 400),
                ("slack", 403),
                ("slack", 404),
                ("pagerduty", 400),
                ("webhook", 400),
                ("email", 550)
            ]
        );
        assert_eq!(all["refused"][3]["receiver"], "oncall-first");
        assert!(!all.to_string().contains(KEY) && !all.to_string().contains("guess"));
    });
}

#[test]
fn a_bad_day_is_answered_as_the_provider_would_and_ends() {
    run(async || {
        let it = Running::start();
        let hello = json!({ "text": "hello" });
        it.trouble("slack", Some("too-many")).await;
        let answer = it.send(Method::POST, SLACK, Some(&hello)).await;
        assert_eq!(answer.status(), 429);
        assert!(
            answer.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 0
        );
        it.trouble("slack", Some("broken")).await;
        assert_eq!(it.post(SLACK, &hello).await.0, 500);
        it.trouble("slack", Some("down")).await;
        let cut = it
            .client
            .post(format!("http://{}{SLACK}", it.http))
            .json(&hello)
            .send()
            .await;
        assert!(cut.is_err(), "{cut:?}");
        // Others are not affected, and neither are the pages.
        assert_eq!(it.post(PAGERDUTY, &event()).await.0, 202);
        it.trouble("slack", None).await;
        assert_eq!(it.post(SLACK, &hello).await.0, 200);

        for (trouble, status) in [("too-many", 429), ("broken", 500)] {
            it.trouble("pagerduty", Some(trouble)).await;
            assert_eq!(it.post(PAGERDUTY, &event()).await.0, status);
        }
        for (trouble, code) in [("too-many", "450"), ("broken", "451")] {
            it.trouble("email", Some(trouble)).await;
            assert_eq!(&it.smtp(MAIL).await[5][..3], code);
        }
        it.trouble("email", Some("down")).await;
        assert_eq!(it.smtp(&[]).await, ["closed"]);
        it.trouble("slack", Some("slow")).await;
        let started = Instant::now();
        assert_eq!(it.post(SLACK, &hello).await.0, 200);
        assert!(started.elapsed() >= inbox::SLOW);
        let shown: Value = it
            .send(Method::GET, "/inbox/api/behaviour", None)
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(shown[0]["trouble"], "slow");
        assert_eq!(shown[3]["trouble"], Value::Null);
    });
}

#[test]
fn the_page_shows_hostile_messages_as_text() {
    run(async || {
        let it = Running::start();
        let evil = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>";
        let slack = json!({
            "text": evil,
            "attachments": [{ "title": evil, "title_link": "javascript:alert(1)", "text": evil, "color": "red;background:url(http://evil.invalid)", "footer": evil,
                "actions": [{ "type": "button", "text": evil, "url": "javascript:alert(1)" }] }]
        });
        assert_eq!(it.post(SLACK, &slack).await.0, 200);
        let mut page = event();
        page["payload"]["summary"] = evil.into();
        page["payload"]["custom_details"] = json!({ evil: evil });
        assert_eq!(it.post(PAGERDUTY, &page).await.0, 202);
        let mail = format!(
            "From: a@example.org\r\nDate: Wed, 25 Nov 2026 08:00:00 +0000\r\nSubject: {evil}\r\nContent-Type: text/html\r\n\r\n{evil}\r\n."
        );
        let lines = [&MAIL[..4], &[mail.as_str()]].concat();
        assert_eq!(&it.smtp(&lines).await[5][..3], "250");

        let answer = it.send(Method::GET, "/inbox", None).await;
        let shown = answer.text().await.unwrap();
        assert!(
            !shown.contains("<script")
                && !shown.contains("<img")
                && !shown.contains("href=\"javascript")
                && !shown.contains("evil.invalid)\""),
            "{shown}"
        );
        assert!(shown.contains("&lt;script&gt;"));
        // Frames that wait until somebody scrolls to them are empty in print.
        assert!(
            shown.contains("<iframe") && !shown.contains("lazy"),
            "{shown}"
        );
        // The mail's own page, in its frame, may run and load nothing.
        let answer = it.send(Method::GET, "/inbox/mail/3", None).await;
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.starts_with("sandbox")
                && policy.contains("default-src 'none'")
                && !policy.contains("allow-scripts"),
            "{policy}"
        );
        assert_eq!(
            it.send(Method::GET, "/inbox/mail/1", None).await.status(),
            404
        );
    });
}

#[test]
fn the_runbook_of_a_message_is_there() {
    run(async || {
        let it = Running::start();
        let answer = it
            .send(Method::GET, "/docs/alerting-playbook.md", None)
            .await;
        assert_eq!(answer.status(), 200);
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains("id=\"higherrorrate\"")
        );
        assert_eq!(
            it.send(Method::GET, "/docs/..%2fCargo.toml", None)
                .await
                .status(),
            404
        );
    });
}

#[test]
fn other_sites_and_other_names_are_kept_out() {
    run(async || {
        let it = Running::start();
        let url = format!("http://{}/inbox/api/messages", it.http);
        let with = async |header: &str, value: &str, method: Method| {
            let request = it.client.request(method, &url).header(header, value);
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(with("host", "evil.example", Method::GET).await, 421);
        assert_eq!(with("host", "evil.example:8000", Method::DELETE).await, 421);
        for host in ["localhost:8000", "127.0.0.1", "inbox.example", "[::1]:8000"] {
            assert_eq!(with("host", host, Method::GET).await, 200, "{host}");
        }
        assert_eq!(
            with("origin", "http://evil.example", Method::DELETE).await,
            403
        );
        assert_eq!(
            with("origin", &format!("http://{}", it.http), Method::DELETE).await,
            204
        );
    });
}

#[test]
fn messages_survive_a_restart_until_they_are_cleared() {
    run(async || {
        let mut it = Running::start();
        assert_eq!(it.post(SLACK, &json!({ "text": "hello" })).await.0, 200);
        let before = it.all().await["messages"].clone();
        it.task.abort();
        let dir = std::mem::replace(&mut it.dir, tempfile::tempdir().unwrap());
        let it = Running::start_in(dir);
        assert_eq!(it.all().await["messages"], before);
        assert_eq!(
            it.send(Method::DELETE, "/inbox/api/messages", None)
                .await
                .status(),
            204
        );
        assert_eq!(it.all().await["messages"], json!([]));
        let file = std::fs::read_to_string(it.dir.path().join("messages.jsonl")).unwrap();
        assert_eq!(file, "");
    });
}

#[test]
fn what_is_missing_or_taken_is_named_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let error = StandIns::bind(args(&dir)).unwrap_err().to_string();
    assert!(
        error.contains("secrets") && error.contains("--secrets"),
        "{error}"
    );
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wrong = args(&dir);
    wrong.smtp_listen = taken.local_addr().unwrap();
    let error = StandIns::bind(wrong).unwrap_err().to_string();
    assert!(
        error.contains("--smtp-listen") && error.contains(&taken.local_addr().unwrap().to_string()),
        "{error}"
    );
    // The first of them was made before the port was found taken.
    std::fs::remove_file(dir.path().join("messages.jsonl")).unwrap();
    std::fs::create_dir(dir.path().join("messages.jsonl")).unwrap();
    let error = StandIns::bind(args(&dir)).unwrap_err().to_string();
    assert!(
        error.contains("messages.jsonl") && error.contains("--store"),
        "{error}"
    );
}
