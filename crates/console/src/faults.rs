//! Breaking things: faults with their time left, what the alerts make of them, and who was told.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use futures::future::join_all;
use maud::{Markup, html};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use service::{About, Fault, Kind};

use crate::{
    Console, chaos, drills, guard, labs, overview,
    page::{Page, Place, seconds},
};

/// So many messages are shown; the inbox has the others.
const NEWEST: usize = 5;

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route("/break", web::get().to(page))
        .route("/break/fault/{fault}", web::post().to(start))
        .route("/break/fault/{fault}/stop", web::post().to(stop));
}

/// The fields of a form that was sent.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    pub(crate) fn token(&self) -> Option<&str> {
        self.get(guard::FIELD)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// What a replica says of its faults.
struct Replica {
    name: &'static str,
    service: &'static str,
    faults: Result<Vec<Offered>, String>,
}

/// A fault that a replica has, and whether it is active.
struct Offered {
    name: String,
    active: Option<Active>,
}

struct Active {
    settings: String,
    left: f64,
}

fn admin(console: &Console) -> Result<chaos::Admin, String> {
    let token_file = console.args.chaos_token_file.as_deref().ok_or(
        "Faults cannot be started here: the console was started without --chaos-token-file.",
    )?;
    chaos::Admin::new(console.args.admin_ports(), token_file, console.http.clone())
        .map_err(|error| error.to_string())
}

/// Asks every replica that is part of this stack.
async fn replicas(console: &Console, admin: &chaos::Admin) -> Vec<Replica> {
    let known = chaos::SERVICES
        .iter()
        .flat_map(|(service, replicas)| replicas.iter().map(move |replica| (*service, *replica)));
    let there = known.filter_map(|(service, name)| Some((service, name, console.admin.get(name)?)));
    let asked = there.map(|(service, name, address)| async move {
        let asked = admin.ask(name, Method::GET, "/chaos", None);
        let faults = match address.answer(asked).await {
            Ok(answer) => answer
                .map(|answer| offered(&answer))
                .map_err(|error| error.to_string()),
            Err(silent) => Err(format!("{name} does not answer: {silent}")),
        };
        Replica {
            name,
            service,
            faults,
        }
    });
    join_all(asked).await
}

fn offered(answer: &Value) -> Vec<Offered> {
    let rows = answer["faults"].as_array().into_iter().flatten();
    rows.filter_map(|row| {
        let active = row["active"].as_object().map(|active| Active {
            settings: chaos::settings(&active["settings"]),
            left: active["seconds_left"].as_f64().unwrap_or_default(),
        });
        Some(Offered {
            name: row["name"].as_str()?.to_owned(),
            active,
        })
    })
    .collect()
}

async fn page(console: web::Data<Console>) -> HttpResponse {
    show(&console, StatusCode::OK, None).await
}

/// The page with a sentence why something was not done.
pub(crate) async fn refused(console: &Console, status: StatusCode, why: &str) -> HttpResponse {
    show(console, status, Some(why)).await
}

/// To the page again, so that loading it anew sends nothing twice.
pub(crate) fn back(part: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("/break{part}")))
        .finish()
}

async fn show(console: &Console, status: StatusCode, trouble: Option<&str>) -> HttpResponse {
    let (faults, alerts, told, drills, labs) = futures::join!(
        faults(console),
        console.prometheus.alerts(),
        overview::Told::of(console),
        drills::part(console),
        labs::part(console)
    );
    let main = html! {
        h1 { "Break things" }
        @if let Some(trouble) = trouble { p.trouble role="alert" { (trouble) } }
        p { "Every fault ends by itself. Start one, and see here what notices: first the metrics, then an alert that is pending, one that fires, and a message." }
        (faults)
        section aria-labelledby="alerts" {
            h2 #alerts { "What the alerts make of it" }
            div #alerts-now data-live {
                (overview::alerts(&alerts, &told))
            }
        }
        section aria-labelledby="messages" {
            h2 #messages { "Who was told" }
            div #messages-now data-live { (messages(console)) }
            p { a href="/inbox" { "The inbox" } " shows each message as Slack, PagerDuty and mail would." }
        }
        (drills)
        (labs)
    };
    Page::new(Place::Break, "Break things", main)
        .with_status(status)
        .respond()
}

async fn faults(console: &Console) -> Markup {
    let admin = match admin(console) {
        Ok(admin) => admin,
        Err(why) => {
            return html! { section { h2 { "Faults" } p.trouble role="status" { (why) } } };
        }
    };
    let replicas = replicas(console, &admin).await;
    html! {
        section aria-labelledby="active" {
            h2 #active { "Active faults" }
            div #active-now data-live { (active(console, &replicas)) }
        }
        section aria-labelledby="faults" {
            h2 #faults { "Start a fault" }
            @for fault in Fault::ALL { (card(console, fault.about(), &replicas)) }
            p.quiet { a href="/docs/faults.md" { "What each teaches, and where it is seen" } }
        }
    }
}

fn active(console: &Console, replicas: &[Replica]) -> Markup {
    let running = || {
        replicas.iter().flat_map(|replica| {
            let offered = replica.faults.iter().flatten();
            offered.filter_map(move |it| Some((replica, it, it.active.as_ref()?)))
        })
    };
    html! {
        @for replica in replicas {
            @if let Err(error) = &replica.faults { p.trouble role="status" { (error) } }
        }
        @if running().next().is_none() {
            p.empty { "Nothing is broken on purpose." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Table of active faults" { table {
                thead { tr { th scope="col" { "Fault" } th scope="col" { "In" } th scope="col" { "Left" } th scope="col" { "Settings" } th scope="col" { "End it" } } }
                tbody {
                    @for (replica, fault, active) in running() {
                        tr {
                            th scope="row" { (fault.name) }
                            td { (replica.name) }
                            td { (seconds(active.left)) }
                            td { (active.settings) }
                            td {
                                form method="post" action={ "/break/fault/" (fault.name) "/stop" } {
                                    (console.token.field())
                                    input type="hidden" name="in" value=(replica.name);
                                    button.second aria-label={ "Stop " (fault.name) " in " (replica.name) } { "Stop" }
                                }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn card(console: &Console, about: &About, replicas: &[Replica]) -> Markup {
    let mut services: Vec<&str> = replicas
        .iter()
        .filter(|replica| {
            let mut offered = replica.faults.iter().flatten();
            offered.any(|it| it.name == about.name)
        })
        .map(|replica| replica.service)
        .collect();
    services.dedup();
    let id = |name: &str| format!("{}-{name}", about.name);
    html! {
        details.fault id=(id("fault")) {
            summary { strong { (about.name) } " " span { (about.summary) } }
            p.quiet { "Teaches: " (about.teaches) " Shows in: " (about.shows) }
            @if services.is_empty() {
                p.trouble role="status" { "No service that has it answers." }
            } @else {
                form method="post" action={ "/break/fault/" (about.name) } {
                    (console.token.field())
                    label for=(id("in")) { "service"
                        select id=(id("in")) name="in" { @for service in &services { option value=(service) { (service) } } }
                    }
                    @for parameter in about.parameters {
                        label for=(id(parameter.name)) { (parameter.name)
                            @if let Kind::Choice { choices } = parameter.kind {
                                select id=(id(parameter.name)) name=(parameter.name) {
                                    @for choice in choices { option selected[*choice == parameter.default] { (choice) } }
                                }
                            } @else {
                                input id=(id(parameter.name)) name=(parameter.name) value=(parameter.default) autocomplete="off" title={ (parameter.help) " " (parameter.allowed()) } size="10";
                            }
                        }
                    }
                    button id=(id("start")) { "Start " (about.name) }
                }
            }
        }
    }
}

fn messages(console: &Console) -> Markup {
    let newest = console.newest.take(NEWEST);
    html! {
        @if newest.is_empty() {
            p.empty { "Nobody has been told of anything yet." }
        } @else {
            ul {
                @for message in &newest {
                    li {
                        time datetime=(message.received_at) { (message.received_at.strftime("%T")) } " "
                        @match message.status {
                            inbox::Status::Firing => span.state.bad { "firing" },
                            inbox::Status::Resolved => span.state.good { "resolved" },
                        }
                        " " (message.alerts.join(", ")) " by " (message.channel.name()) " to " (message.receiver)
                    }
                }
            }
        }
    }
}

async fn start(
    request: HttpRequest,
    fault: web::Path<String>,
    form: web::Form<Form>,
    console: web::Data<Console>,
) -> HttpResponse {
    if let Some(refusal) = console.token.refusal(&request, form.token()) {
        return refusal;
    }
    let meant = form.get("in").unwrap_or_default();
    let replicas = chaos::SERVICES.iter().find(|(name, _)| *name == meant);
    let (Some(fault), Some((_, replicas))) = (Fault::find(&fault), replicas) else {
        let why = format!("There is no fault {fault} in {meant}.");
        return refused(&console, StatusCode::UNPROCESSABLE_ENTITY, &why).await;
    };
    let given = fault.about().parameters.iter().filter_map(|parameter| {
        let text = form.get(parameter.name)?.trim();
        (!text.is_empty()).then(|| (parameter.name.to_owned(), Value::from(text)))
    });
    let body: Map<String, Value> = given.collect();
    let path = format!("/chaos/{}", fault.about().name);
    let part_of = console.args.admin_ports();
    let replicas = replicas.iter().filter(|name| part_of.contains_key(**name));
    for replica in replicas {
        let asked = ask(
            &console,
            replica,
            Method::POST,
            &path,
            Some(body.clone().into()),
        )
        .await;
        if let Err((status, why)) = asked {
            return refused(&console, status, &why).await;
        }
    }
    back("#active")
}

async fn stop(
    request: HttpRequest,
    fault: web::Path<String>,
    form: web::Form<Form>,
    console: web::Data<Console>,
) -> HttpResponse {
    if let Some(refusal) = console.token.refusal(&request, form.token()) {
        return refusal;
    }
    let Some(fault) = Fault::find(&fault) else {
        let why = format!("There is no fault {fault}.");
        return refused(&console, StatusCode::UNPROCESSABLE_ENTITY, &why).await;
    };
    let replica = form.get("in").unwrap_or_default();
    let path = format!("/chaos/{}", fault.about().name);
    match ask(&console, replica, Method::DELETE, &path, None).await {
        Ok(()) => back("#active"),
        Err((status, why)) => refused(&console, status, &why).await,
    }
}

async fn ask(
    console: &Console,
    replica: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<(), (StatusCode, String)> {
    let admin = admin(console).map_err(|why| (StatusCode::SERVICE_UNAVAILABLE, why))?;
    let answer = admin.ask(replica, method, path, body).await;
    answer.map(drop).map_err(|error| {
        let status = match error.is_usage() {
            true => StatusCode::UNPROCESSABLE_ENTITY,
            false => StatusCode::BAD_GATEWAY,
        };
        (status, error.to_string())
    })
}
