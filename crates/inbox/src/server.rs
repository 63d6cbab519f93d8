//! The stand-ins' HTTP side and the inbox for people and machines.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Uri, header, uri::Authority},
    middleware::Next,
    web,
};
use nix::sys::socket::{Shutdown, shutdown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Area, Channel, Inbox, Part, Status, Trouble, behaviour, dead_mans_switch, docs, pagerduty,
    pages, slack,
};

/// The client's connection, to be cut as a provider that is down would.
pub(crate) struct Connection(pub(crate) std::os::fd::RawFd);

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route(
            "/healthz",
            web::get().to(async || HttpResponse::Ok().body("ok\n")),
        )
        .route("/inbox", web::get().to(page))
        .route("/docs", web::get().to(documents))
        .route("/docs/{name}", web::get().to(document))
        .route("/inbox/mail/{id}", web::get().to(mail_page))
        .route(
            "/inbox/slack/services/{team}/{receiver}/{token}",
            web::post().to(take_slack),
        )
        .route(
            "/inbox/pagerduty/v2/enqueue",
            web::post().to(take_pagerduty),
        )
        .route(
            "/inbox/webhook/dead-mans-switch",
            web::post().to(take_heartbeat),
        )
        .service(
            web::resource("/inbox/api/messages")
                .get(messages)
                .delete(clear),
        )
        .service(
            web::resource("/inbox/api/behaviour")
                .get(show_behaviour)
                .put(set_behaviour),
        );
}

/// Lets in only requests that name this server as their host: a page from elsewhere, whose name was made to resolve to
/// loopback, does not.
pub(crate) async fn check_host(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let hosts = request
        .app_data::<web::Data<Inbox>>()
        .map(|inbox| &inbox.hosts);
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let known = host.is_some_and(|host| {
        let name = host.host();
        matches!(name, "127.0.0.1" | "localhost" | "[::1]")
            || hosts.is_some_and(|hosts| hosts.iter().any(|it| it == name))
    });
    if known {
        let answer = next.call(request).await?;
        return Ok(answer.map_into_left_body());
    }
    let answer = HttpResponse::MisdirectedRequest()
        .body("this host name is not served here; --host NAME allows it\n");
    Ok(request.into_response(answer).map_into_right_body())
}

// --- providers ----------------------------------------------------------------

/// The trouble of a channel, with slowness already suffered.
async fn trouble(inbox: &Inbox, channel: Channel) -> Option<(Trouble, Duration)> {
    let found = inbox.behaviour.of(channel);
    if let Some((Trouble::Slow, _)) = found {
        tokio::time::sleep(behaviour::SLOW).await;
        return None;
    }
    found
}

/// Cuts the connection without an answer.
fn cut(request: &HttpRequest) -> HttpResponse {
    if let Some(Connection(socket)) = request.conn_data() {
        // The other end may have gone first.
        let _ = shutdown(*socket, Shutdown::Both);
    }
    HttpResponse::InternalServerError().finish()
}

/// What a payload looks like in the list of refusals.
fn shown(body: &[u8]) -> Value {
    const LENGTH: usize = 4096;
    let mut value: Value = match serde_json::from_slice(body) {
        Ok(value) if body.len() <= LENGTH => value,
        _ => String::from_utf8_lossy(&body[..body.len().min(LENGTH)]).into(),
    };
    if let Some(key) = value.get_mut("routing_key") {
        *key = "(not shown)".into();
    }
    value
}

async fn take_slack(
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
    body: web::Bytes,
    inbox: web::Data<Inbox>,
) -> HttpResponse {
    let (_, name, _) = path.into_inner();
    let answer = |(status, word): slack::Answer| {
        let receiver = Some(name.as_str());
        inbox.refused(Channel::Slack, receiver, (status, word), shown(&body));
        let mut answer = HttpResponse::build(status_code(status));
        answer.content_type("text/html");
        if let (429, Some((_, left))) = (status, inbox.behaviour.of(Channel::Slack)) {
            answer.insert_header((header::RETRY_AFTER, left.as_secs().max(1).to_string()));
        }
        answer.body(word)
    };
    match trouble(&inbox, Channel::Slack).await {
        Some((Trouble::Down, _)) => {
            answer((0, "connection cut"));
            return cut(&request);
        }
        Some((Trouble::TooMany, _)) => return answer(slack::RATE_LIMITED),
        Some(_) => return answer(slack::BROKEN),
        None => {}
    }
    let read = inbox
        .receivers
        .of_webhook(&name, request.path())
        .map_err(slack::unknown)
        .and_then(|receiver| slack::read(&receiver, &body));
    match read {
        Err(refusal) => answer(refusal),
        Ok(notification) => match inbox.taken(Channel::Slack, notification) {
            Ok(()) => HttpResponse::Ok().content_type("text/html").body(slack::OK),
            Err(_) => HttpResponse::InternalServerError().body("cannot be stored"),
        },
    }
}

async fn take_pagerduty(
    request: HttpRequest,
    body: web::Bytes,
    inbox: web::Data<Inbox>,
) -> HttpResponse {
    let answer = |(status, body_of): pagerduty::Answer| {
        if status != 202 {
            let errors = body_of["errors"].as_array().into_iter().flatten();
            let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
            let reason = match errors.as_slice() {
                [] => body_of["message"]
                    .as_str()
                    .unwrap_or("connection cut")
                    .into(),
                errors => errors.join("; "),
            };
            let key = serde_json::from_slice::<Value>(&body).ok();
            let receiver = key.and_then(|it| inbox.receivers.of_key(it["routing_key"].as_str()?));
            let answer = (status, reason.as_str());
            inbox.refused(
                Channel::Pagerduty,
                receiver.as_deref(),
                answer,
                shown(&body),
            );
        }
        HttpResponse::build(status_code(status)).json(body_of)
    };
    match trouble(&inbox, Channel::Pagerduty).await {
        Some((Trouble::Down, _)) => {
            answer((0, Value::Null));
            return cut(&request);
        }
        Some((Trouble::TooMany, _)) => return answer(pagerduty::rate_limited()),
        Some(_) => return answer(pagerduty::broken()),
        None => {}
    }
    match pagerduty::read(&body, &inbox.receivers) {
        Err(refusal) => answer(refusal),
        Ok((notification, taken)) => match inbox.taken(Channel::Pagerduty, notification) {
            Ok(()) => answer(taken),
            Err(_) => answer(pagerduty::broken()),
        },
    }
}

async fn take_heartbeat(
    request: HttpRequest,
    body: web::Bytes,
    inbox: web::Data<Inbox>,
) -> HttpResponse {
    let refuse = |status: u16, word: &str| {
        let receiver = Some(dead_mans_switch::RECEIVER);
        inbox.refused(Channel::Webhook, receiver, (status, word), shown(&body));
        HttpResponse::build(status_code(status)).body(word.to_owned())
    };
    match trouble(&inbox, Channel::Webhook).await {
        Some((Trouble::Down, _)) => {
            refuse(0, "connection cut");
            return cut(&request);
        }
        Some((Trouble::TooMany, _)) => return refuse(429, "too many requests"),
        Some(_) => return refuse(500, "internal server error"),
        None => {}
    }
    let heard = inbox.switch.hear(&body, std::time::Instant::now());
    match heard {
        None => refuse(400, "not a webhook of Alertmanager"),
        Some(alarm) => {
            inbox.sound(alarm);
            HttpResponse::Ok().body("ok")
        }
    }
}

fn status_code(status: u16) -> actix_web::http::StatusCode {
    actix_web::http::StatusCode::from_u16(status)
        .unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR)
}

// --- people and machines --------------------------------------------------------

/// Which messages are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    pub(crate) channel: Option<Channel>,
    pub(crate) receiver: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) alert: Option<String>,
    /// Only those with a higher number.
    pub(crate) after: Option<u64>,
}

async fn messages(filter: web::Query<Filter>, inbox: web::Data<Inbox>) -> impl Responder {
    let mut messages = inbox.store.messages();
    messages.retain(|message| {
        filter.channel.is_none_or(|it| it == message.channel)
            && filter
                .receiver
                .as_ref()
                .is_none_or(|it| *it == message.receiver)
            && filter.status.is_none_or(|it| it == message.status)
            && filter
                .alert
                .as_ref()
                .is_none_or(|it| message.alerts.contains(it))
            && filter.after.is_none_or(|it| it < message.id)
    });
    let mut refused = inbox.store.refusals();
    refused.retain(|refusal| {
        filter.channel.is_none_or(|it| it == refusal.channel)
            && (filter.receiver.is_none() || filter.receiver == refusal.receiver)
            && filter.after.is_none_or(|it| it < refusal.id)
    });
    web::Json(json!({
        "messages": messages,
        "refused": refused,
        "dead_mans_switch": inbox.switch.report(),
    }))
}

async fn clear(request: HttpRequest, inbox: web::Data<Inbox>) -> HttpResponse {
    if is_foreign(&request) {
        return HttpResponse::Forbidden().body("not from a page of another site\n");
    }
    match inbox.store.clear() {
        Ok(()) => HttpResponse::NoContent().finish(),
        Err(error) => HttpResponse::InternalServerError().body(format!("{error}\n")),
    }
}

/// What `PUT /inbox/api/behaviour` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    channel: Channel,
    /// `null` mends it.
    trouble: Option<Trouble>,
    #[serde(default = "a_minute")]
    for_seconds: u64,
}

fn a_minute() -> u64 {
    60
}

/// One channel's trouble, as shown.
#[derive(Debug, Serialize)]
struct Shown {
    channel: Channel,
    trouble: Option<Trouble>,
    seconds_left: Option<u64>,
}

async fn show_behaviour(inbox: web::Data<Inbox>) -> impl Responder {
    let shown = Channel::ALL.map(|channel| {
        let trouble = inbox.behaviour.of(channel);
        Shown {
            channel,
            trouble: trouble.map(|(trouble, _)| trouble),
            seconds_left: trouble.map(|(_, left)| left.as_secs()),
        }
    });
    web::Json(shown)
}

async fn set_behaviour(
    request: HttpRequest,
    change: web::Json<Change>,
    inbox: web::Data<Inbox>,
) -> HttpResponse {
    if is_foreign(&request) {
        return HttpResponse::Forbidden().body("not from a page of another site\n");
    }
    let time = Duration::from_secs(change.for_seconds);
    inbox.behaviour.set(
        change.channel,
        change.trouble.map(|trouble| (trouble, time)),
    );
    show_behaviour(inbox)
        .await
        .respond_to(&request)
        .map_into_boxed_body()
}

/// Whether a browser sends this for a page of another site. JSON and DELETE are not sent across sites without being asked for
/// first, which nobody here answers; this is the second lock.
fn is_foreign(request: &HttpRequest) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|it| it.parse::<Uri>().ok());
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|it| it.to_str().ok());
    origin
        .and_then(|it| it.authority().map(|it| it.as_str().to_owned()))
        .as_deref()
        != host
}

/// How a part becomes a page.
type Frame = web::Data<fn(Part) -> HttpResponse>;

async fn page(filter: web::Query<Filter>, inbox: web::Data<Inbox>, frame: Frame) -> HttpResponse {
    frame(Part {
        title: "Inbox".into(),
        area: Area::Inbox,
        main: pages::inbox(&inbox, &filter),
    })
}

async fn mail_page(id: web::Path<u64>, inbox: web::Data<Inbox>) -> HttpResponse {
    let mail = inbox.store.messages().into_iter().find(|it| it.id == *id);
    let page = mail.as_ref().and_then(|mail| mail.payload["html"].as_str());
    match page {
        // Shown in a frame: what came from outside may run nothing and load nothing.
        Some(page) => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((
                header::CONTENT_SECURITY_POLICY,
                "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'",
            ))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(page.to_owned()),
        None => HttpResponse::NotFound().body("no such mail\n"),
    }
}

async fn documents(inbox: web::Data<Inbox>, frame: Frame) -> HttpResponse {
    frame(Part {
        title: "Docs".into(),
        area: Area::Docs,
        main: docs::index(inbox.docs.as_deref()),
    })
}

async fn document(name: web::Path<String>, inbox: web::Data<Inbox>, frame: Frame) -> HttpResponse {
    let main = inbox.docs.as_deref().and_then(|dir| docs::page(dir, &name));
    match main {
        Some(main) => frame(Part {
            title: name.trim_end_matches(".md").into(),
            area: Area::Docs,
            main,
        }),
        None => HttpResponse::NotFound().body("no such document\n"),
    }
}

/// Remembers the connection's socket for [`cut`].
pub(crate) fn on_connect(connection: &dyn std::any::Any, data: &mut actix_web::dev::Extensions) {
    use std::os::fd::AsRawFd as _;
    if let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() {
        data.insert(Connection(stream.as_raw_fd()));
    }
}
