//! Drills: one at a time, carried out by `lab drill`, a child process that ends with the console and mends before it does.

use std::{
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use stack::{Group, Guise};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    sync::{OnceCell, mpsc},
};

use crate::{
    Console,
    faults::{self, Form},
    page::seconds,
    program::Program,
};

/// Mending takes some seconds: rules are put back, what was paused goes on.
const MENDS_WITHIN: Duration = Duration::from_secs(12);
/// Of what a drill says on its standard error.
const LAST_WORDS: usize = 6;

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route("/break/drill", web::post().to(start))
        .route("/break/drill/stop", web::post().to(stop));
}

/// What can be drilled, and the drill that is going on or was the last.
#[derive(Debug)]
pub(crate) struct Drills {
    program: Option<Program>,
    list: OnceCell<Vec<Row>>,
    run: Mutex<Option<Run>>,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Start(String),
    Stop,
    /// The console ends.
    End,
}

/// A row of `lab drill --list --json`.
#[derive(Debug, Deserialize)]
struct Row {
    alert: String,
    exercise: Option<String>,
    what: Option<String>,
    /// Why it cannot be provoked here.
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    drills: Vec<Row>,
}

#[derive(Debug)]
struct Run {
    alert: String,
    events: Vec<Event>,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    Runs,
    Stopping,
    /// Every alert was seen firing, told and ended; or not, and why.
    Ended(Result<(), String>),
}

/// A line of `lab drill --events`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    what: Option<String>,
    #[serde(default)]
    alert: Option<String>,
    #[serde(default)]
    receiver: Option<String>,
    at: Timestamp,
    seconds: f64,
    #[serde(default)]
    theory: Option<u64>,
}

/// The last line.
#[derive(Debug, Deserialize)]
struct Report {
    ok: bool,
    drills: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    alert: String,
    missing: Vec<String>,
}

/// What carries out the orders, on the thread that children are tied to.
#[derive(Debug)]
pub(crate) struct Orders(mpsc::UnboundedReceiver<Order>);

impl Drills {
    /// Drills are carried out by `lab`; where there is no lab there are none.
    pub(crate) fn new(program: Option<Program>) -> (Self, Orders) {
        let (orders, received) = mpsc::unbounded_channel();
        let drills = Self {
            program,
            list: OnceCell::new(),
            run: Mutex::new(None),
            orders,
        };
        (drills, Orders(received))
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends what is going on, and [`Self::carry_out`] with it.
    pub(crate) fn end(&self) {
        let _ = self.orders.send(Order::End);
    }

    /// Carries out what is ordered until the end is.
    pub(crate) async fn carry_out(&self, Orders(mut orders): Orders) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Start(alert) => {
                    let (ended, over) = self.drill(&alert, &mut orders).await;
                    if let Some(run) = self.run().as_mut() {
                        run.state = State::Ended(ended);
                    }
                    if over {
                        return;
                    }
                }
                Order::Stop => {}
                Order::End => return,
            }
        }
    }

    /// One drill, to its end; and whether the console ends.
    async fn drill(
        &self,
        alert: &str,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> (Result<(), String>, bool) {
        let Some(program) = &self.program else {
            return (Err("there is no lab to drill".into()), false);
        };
        let mut command = program.command();
        command
            .args(["drill", "--events"])
            .arg(alert)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut group = match Group::spawn(&mut command, &Guise::PLAIN) {
            Ok(group) => group,
            Err(error) => return (Err(format!("cannot start `lab drill`: {error}")), false),
        };
        let (out, errors) = group.take_output();
        let words = actix_web::rt::spawn(last_words(errors));
        let mut lines = out.map(|out| BufReader::new(out).lines());
        let mut report = None;
        loop {
            tokio::select! {
                line = next(&mut lines) => match line {
                    Some(line) => self.take(&line, &mut report),
                    None => break,
                },
                order = orders.recv() => match order {
                    // Another one is refused before it comes here.
                    Some(Order::Start(_)) => {}
                    Some(Order::Stop) => {
                        group.stop(MENDS_WITHIN).await;
                        return (Err("stopped; the lab is mended".into()), false);
                    }
                    Some(Order::End) | None => {
                        group.stop(MENDS_WITHIN).await;
                        return (Err("the console ended".into()), true);
                    }
                },
            }
        }
        let status = group.wait().await;
        let ended = match report {
            Some(Report { ok: true, .. }) => Ok(()),
            Some(Report { drills, .. }) => {
                let missing = drills.iter().filter(|it| !it.missing.is_empty());
                let missing = missing.map(|it| format!("{}: {}", it.alert, it.missing.join("; ")));
                Err(missing.collect::<Vec<_>>().join(". "))
            }
            None => {
                let words = words.await.unwrap_or_default();
                let status = status.map_or_else(|error| error.to_string(), |it| it.to_string());
                Err(format!("`lab drill` ended ({status}): {words}"))
            }
        };
        (ended, false)
    }

    fn take(&self, line: &str, report: &mut Option<Report>) {
        if let Ok(event) = serde_json::from_str::<Event>(line) {
            if let Some(run) = self.run().as_mut() {
                run.events.push(event);
            }
        } else if let Ok(last) = serde_json::from_str::<Report>(line) {
            *report = Some(last);
        }
    }

    /// What can be drilled; asked for once.
    async fn list(&self) -> Result<&[Row], String> {
        let Some(program) = &self.program else {
            return Err("This console is not part of a lab, which alone can be drilled.".into());
        };
        let list = self.list.get_or_try_init(|| async {
            let mut command = program.command();
            command
                .args(["drill", "--list", "--json"])
                .kill_on_drop(true);
            let output = command.output().await.map_err(|error| error.to_string())?;
            let listing: Listing = serde_json::from_slice(&output.stdout)
                .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
            Ok(listing.drills)
        });
        let list: Result<_, String> = list.await;
        list.map(Vec::as_slice)
            .map_err(|error| format!("`lab drill --list` does not work: {error}"))
    }
}

async fn next<R: AsyncRead + Unpin>(lines: &mut Option<Lines<BufReader<R>>>) -> Option<String> {
    lines.as_mut()?.next_line().await.ok()?
}

/// The end of what a child complains about.
async fn last_words(errors: Option<impl AsyncRead + Unpin>) -> String {
    let mut lines = errors.map(|errors| BufReader::new(errors).lines());
    let mut kept = std::collections::VecDeque::new();
    while let Some(line) = next(&mut lines).await {
        kept.push_back(line);
        if kept.len() > LAST_WORDS {
            kept.pop_front();
        }
    }
    Vec::from(kept).join(" ")
}

async fn start(
    request: HttpRequest,
    form: web::Form<Form>,
    console: web::Data<Console>,
) -> HttpResponse {
    if let Some(refusal) = console.token.refusal(&request, form.token()) {
        return refusal;
    }
    let drills = &console.drills;
    let known = match drills.list().await {
        Ok(list) => list,
        Err(why) => return faults::refused(&console, StatusCode::SERVICE_UNAVAILABLE, &why).await,
    };
    let alert = form.get("alert").unwrap_or_default();
    let can_be_provoked = |row: &&Row| row.alert == alert && row.exercise.is_some();
    if known.iter().find(can_be_provoked).is_none() {
        let why = format!("There is no drill of an alert {alert}.");
        return faults::refused(&console, StatusCode::UNPROCESSABLE_ENTITY, &why).await;
    }
    let going_on = {
        let mut run = drills.run();
        match &*run {
            Some(run) if !matches!(run.state, State::Ended(_)) => Some(run.alert.clone()),
            _ => {
                *run = Some(Run {
                    alert: alert.to_owned(),
                    events: Vec::new(),
                    state: State::Runs,
                });
                let _ = drills.orders.send(Order::Start(alert.to_owned()));
                None
            }
        }
    };
    match going_on {
        None => faults::back("#drill"),
        Some(other) => {
            let why = format!("A drill of {other} is going on: one at a time.");
            faults::refused(&console, StatusCode::CONFLICT, &why).await
        }
    }
}

async fn stop(
    request: HttpRequest,
    form: web::Form<Form>,
    console: web::Data<Console>,
) -> HttpResponse {
    if let Some(refusal) = console.token.refusal(&request, form.token()) {
        return refusal;
    }
    if let Some(run) = console.drills.run().as_mut()
        && run.state == State::Runs
    {
        run.state = State::Stopping;
        let _ = console.drills.orders.send(Order::Stop);
    }
    faults::back("#drill")
}

/// The part of the page: the drill that goes on, and what can be drilled.
pub(crate) async fn part(console: &Console) -> Markup {
    let drills = &console.drills;
    let list = drills.list().await;
    html! {
        section aria-labelledby="drill" {
            h2 #drill { "Drills" }
            p { "A drill breaks what makes one alert fire, watches who is told and when, mends it, and watches the end. Rules run on a faster clock meanwhile. " a href="/docs/drill.md" { "How it works" } }
            div #drill-now data-live { (now(console)) }
            @match list {
                Err(why) => p.trouble role="status" { (why) },
                Ok(list) => {
                    form method="post" action="/break/drill" {
                        (console.token.field())
                        label for="alert" { "Alert"
                            select #alert name="alert" {
                                @for row in list.iter().filter(|row| row.exercise.is_some()) {
                                    option value=(row.alert) { (row.alert) }
                                }
                            }
                        }
                        button #start-drill { "Start the drill" }
                    }
                    details #drill-list {
                        summary { "What provokes which alert" }
                        dl {
                            @for row in list {
                                dt { (row.alert) }
                                dd {
                                    @match (&row.what, &row.reason) {
                                        (Some(what), _) => (what),
                                        (None, reason) => { "not here: " (reason.as_deref().unwrap_or("no reason given")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn now(console: &Console) -> Markup {
    let run = console.drills.run();
    let Some(run) = &*run else {
        return html! { p.empty { "No drill yet. Start one and watch it here." } };
    };
    html! {
        p {
            strong { (run.alert) } " "
            @match &run.state {
                State::Runs => span.state.warn { "going on" },
                State::Stopping => span.state.warn { "is being stopped and mended" },
                State::Ended(Ok(())) => span.state.good { "seen firing, told and ended" },
                State::Ended(Err(_)) => span.state.bad { "ended" },
            }
        }
        @if let State::Ended(Err(why)) = &run.state { p.trouble role="status" { (why) } }
        ol.timeline {
            @if run.events.is_empty() && run.state == State::Runs { li.quiet { "waits until the alert is quiet, then breaks it" } }
            @for event in &run.events { li class=(event.event) { (line(event)) } }
        }
        @if run.state == State::Runs {
            form method="post" action="/break/drill/stop" {
                (console.token.field())
                button.second #stop-drill { "Stop and mend" }
            }
        }
    }
}

fn line(event: &Event) -> Markup {
    let words = match event.event.as_str() {
        "fault" => "fault",
        "pending" => "pending",
        "firing" => "firing",
        "inhibited" => "silenced by its cause",
        "told" => "notified",
        "mended" => "mended",
        "ended" => "resolved",
        "told-of-end" => "notified of the end",
        other => other,
    };
    html! {
        time datetime=(event.at) { (event.at.strftime("%T")) } " "
        strong { (words) } " "
        @if let Some(alert) = &event.alert { (alert) " " }
        @if let Some(receiver) = &event.receiver { "to " (receiver) " " }
        @if let Some(what) = &event.what { (what) " " }
        @if let Some(theory) = event.theory {
            span.quiet { "after " (seconds(event.seconds)) ", in theory within " (theory) " s" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_the_report_are_told_apart() {
        let (drills, _orders) = Drills::new(None);
        *drills.run() = Some(Run {
            alert: "A".into(),
            events: Vec::new(),
            state: State::Runs,
        });
        let mut report = None;
        for line in [
            r#"{"event":"fault","exercise":"errors","what":"all requests fail","at":"2026-11-25T10:00:00Z","seconds":0.0}"#,
            r#"{"event":"told","exercise":"errors","alert":"A","receiver":"slack/shop","at":"2026-11-25T10:00:30Z","seconds":30.5,"theory":50}"#,
            "not JSON",
            r#"{"ok":false,"drills":[{"alert":"A","missing":["it did not end"]}]}"#,
        ] {
            drills.take(line, &mut report);
        }
        let run = drills.run();
        let events = &run.as_ref().unwrap().events;
        assert_eq!(events.len(), 2);
        let shown = line(&events[1]).into_string();
        assert!(
            shown.contains("10:00:30")
                && shown.contains("slack/shop")
                && shown.contains("within 50 s"),
            "{shown}"
        );
        let report = report.unwrap();
        assert!(!report.ok && report.drills[0].missing[0] == "it did not end");
    }
}
