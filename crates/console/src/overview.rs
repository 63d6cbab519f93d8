//! What a newcomer has to see in ten seconds: is everything there, how is the service, who is told, what is proven.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::{HttpResponse, web};
use inbox::{Channel, Message};
use jiff::Timestamp;
use maud::{Markup, html};
use oncall::{Role, Roster};
use serde::Deserialize;
use stack::{Board, HOST, Lab, Status};

use crate::{
    Console,
    backend::Trouble,
    page::{Page, Place},
    prometheus::{Alert, Labels, Sample},
};

const RATE: &str = r#"service:flask_requests:rate1m{service="flask-api"}"#;
const ERRORS: &str = r#"service:flask_requests_errors:ratio_rate1m{service="flask-api"}"#;
const P95: &str = r#"service:flask_http_request_duration_seconds:p95_rate1m{service="flask-api"}"#;
const BUDGET: &str = "slo:period_error_budget_remaining:ratio";

/// The share of failed requests and the 95th percentile above which a tile asks for attention: the objectives of
/// prometheus/slos.
const MANY_ERRORS: f64 = 0.001;
const SLOW: f64 = 0.25;

/// What each component is for. What is in none is shown among the application.
const PILLARS: [(&str, &str, &[&str]); 4] = [
    (
        "Application",
        "what is watched",
        &[
            "flask-api-1",
            "flask-api-2",
            "payments",
            "loadgen",
            "console",
        ],
    ),
    (
        "Metrics",
        "how much, how often: Prometheus",
        &[
            "prometheus",
            "alertmanager",
            "custom-flask-exporter",
            "node_exporter",
            "blackbox_exporter",
            "cadvisor",
            "grafana",
        ],
    ),
    (
        "Logs",
        "what happened: Elasticsearch",
        &[
            "elasticsearch",
            "otelcol",
            "kibana",
            "logstash",
            "filebeat",
            "fluent-bit",
        ],
    ),
    ("Traces", "where the time went: Jaeger", &["jaeger"]),
];

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes.route("/", web::get().to(overview));
}

/// What is asked of Prometheus, all at one time.
struct Figures {
    at: f64,
    rate: Result<Vec<Sample>, Trouble>,
    errors: Result<Vec<Sample>, Trouble>,
    p95: Result<Vec<Sample>, Trouble>,
    budgets: Result<Vec<Sample>, Trouble>,
    alerts: Result<Vec<Alert>, Trouble>,
    told: Result<Told, Trouble>,
}

impl Figures {
    async fn of(console: &Console) -> Self {
        let at = Timestamp::now().as_millisecond();
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 are exact for 285,000 years"
        )]
        let at = at as f64 / 1000.0;
        let prometheus = &console.prometheus;
        let ask = |query| prometheus.instant(query, Some(at));
        let (rate, errors, p95, budgets, alerts, told) = futures::join!(
            ask(RATE),
            ask(ERRORS),
            ask(P95),
            ask(BUDGET),
            prometheus.alerts(),
            Told::of(console)
        );
        Self {
            at,
            rate,
            errors,
            p95,
            budgets,
            alerts,
            told,
        }
    }
}

async fn overview(console: web::Data<Console>) -> HttpResponse {
    let figures = Figures::of(&console).await;
    let lab = console.lab.as_ref().map(Lab::look);
    let board = match &lab {
        Some(Lab::Running(board) | Lab::Ended(board)) => Some(board),
        _ => None,
    };
    let main = html! {
        h1 { "Overview" }
        div #now data-live {
            (headline(board, &figures))
            (tiles(&figures))
            div.columns {
                div {
                    section aria-labelledby="firing" {
                        h2 #firing { "Alerts" }
                        (alerts(&figures.alerts, &figures.told))
                    }
                    (on_call(&console))
                    (verified(&console))
                }
                (pillars(board))
            }
        }
    };
    Page::new(Place::Overview, "Overview", main)
        .wide()
        .respond()
}

fn headline(board: Option<&Board>, figures: &Figures) -> Markup {
    let not_ready: Vec<&Status> = board
        .into_iter()
        .flat_map(|board| &board.components)
        .filter(|it| !matches!(it.state, stack::State::Ready | stack::State::Absent))
        .collect();
    let firing = figures.alerts.as_ref().map(|alerts| {
        let named = Named::all(alerts);
        named.iter().filter(|it| it.firing() > 0).count()
    });
    html! {
        p.headline role="status" {
            @match board {
                None => span.state { "no lab" },
                Some(_) if not_ready.is_empty() => span.state.good { "everything runs" },
                Some(_) => span.state.bad { (not_ready.len()) " not ready" },
            }
            " "
            @match firing {
                Ok(0) => span.state.good { "no alert fires" },
                Ok(1) => span.state.bad { "1 alert fires" },
                Ok(number) => span.state.bad { (number) " alerts fire" },
                Err(_) => span.state.warn { "no alerts known" },
            }
            " "
            span.quiet { "A small shop, watched by its metrics, logs and traces. Pages bring themselves up to date." }
        }
    }
}

fn tiles(figures: &Figures) -> Markup {
    let first = |of: &Result<Vec<Sample>, Trouble>| {
        of.as_ref()
            .map(|samples| samples.first().map(|sample| sample.value))
            .map_err(Clone::clone)
    };
    html! {
        section.tiles aria-label="The service now" data-at=(figures.at) {
            (tile("Requests", "rate", RATE, first(&figures.rate), |it| format!("{it:.1} /s"), |_| false))
            (tile("Errors", "errors", ERRORS, first(&figures.errors), percent, |it| it > MANY_ERRORS))
            (tile("Latency, p95", "p95", P95, first(&figures.p95), |it| format!("{:.0} ms", it * 1000.0), |it| it > SLOW))
            @match &figures.budgets {
                Err(trouble) => div.tile { h2 { "Error budget" } (trouble) },
                Ok(budgets) if budgets.is_empty() => (tile("Error budget", "budget", BUDGET, Ok(None), percent, |_| false)),
                Ok(budgets) => @for budget in budgets {
                    @let slo = budget.labels.get("sloth_slo").map_or("", String::as_str);
                    (tile(&format!("Budget left, {slo}"), &format!("budget-{slo}"), BUDGET, Ok(Some(budget.value)), percent, |it| it <= 0.0))
                },
            }
        }
    }
}

fn tile(
    title: &str,
    name: &str,
    query: &str,
    value: Result<Option<f64>, Trouble>,
    written: impl Fn(f64) -> String,
    is_bad: impl Fn(f64) -> bool,
) -> Markup {
    html! {
        div.tile title=(query) {
            h2 { (title) }
            @match value {
                Ok(Some(value)) => p.figure.bad[is_bad(value)] data-figure=(name) data-value=(value) { (written(value)) },
                Ok(None) => p.figure.none data-figure=(name) { "no data" },
                Err(trouble) => (trouble),
            }
        }
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".into(),
        it if it.abs() < 0.095 => format!("{it:.3} %"),
        it if it.abs() < 9.95 => format!("{it:.2} %"),
        it => format!("{it:.0} %"),
    }
}

/// Alerts of one name: one for each series that its rule finds.
struct Named<'a>(Vec<&'a Alert>);

impl<'a> Named<'a> {
    /// Those that are pending or firing, the ones that fire first.
    fn all(alerts: &'a [Alert]) -> Vec<Self> {
        let mut rows = BTreeMap::<&str, Vec<&Alert>>::new();
        // One that always fires says that alerting works.
        for alert in alerts.iter().filter(|it| it.label("severity") != "none") {
            rows.entry(alert.label("alertname"))
                .or_default()
                .push(alert);
        }
        let mut rows: Vec<Self> = rows.into_values().map(Self).collect();
        rows.sort_by_key(|row| (row.firing() == 0, row.since()));
        rows
    }

    fn name(&self) -> &'a str {
        self.0[0].label("alertname")
    }

    /// How many of its series fire.
    fn firing(&self) -> usize {
        self.0.iter().filter(|it| it.firing).count()
    }

    /// When the first of them began to hold.
    fn since(&self) -> Option<Timestamp> {
        let times = self.0.iter().filter_map(|it| it.active_at.parse().ok());
        times.min()
    }

    /// What its alerts say, each thing once.
    fn said(&self, what: impl Fn(&'a Alert) -> Option<&'a str>) -> BTreeSet<&'a str> {
        self.0.iter().filter_map(|it| what(it)).collect()
    }
}

/// Who was told of alerts, and of which nobody is.
pub(crate) struct Told {
    /// Labels of what Alertmanager was sent; whether it keeps that to itself.
    sent: Vec<(Labels, bool)>,
    heard: Vec<Heard>,
}

/// A message that told somebody of alerts.
struct Heard {
    alerts: Vec<String>,
    receiver: String,
    channel: Channel,
    at: Timestamp,
}

impl Heard {
    fn of(message: &Message) -> Option<Self> {
        (message.status == inbox::Status::Firing).then(|| Self {
            alerts: message.alerts.clone(),
            receiver: message.receiver.clone(),
            channel: message.channel,
            at: message.received_at,
        })
    }
}

impl Told {
    pub(crate) async fn of(console: &Console) -> Result<Self, Trouble> {
        let answer = console.alertmanager.get("/api/v2/alerts", &[]).await?;
        let alerts = answer.as_array().into_iter().flatten().map(|alert| {
            let labels = serde_json::from_value(alert["labels"].clone()).unwrap_or_default();
            (labels, alert["status"]["state"] == "suppressed")
        });
        Ok(Self {
            sent: alerts.collect(),
            heard: console.newest.each(Heard::of),
        })
    }

    /// Whether nobody is told of it: it is silenced, or another alert is its cause.
    fn is_suppressed(&self, alert: &Alert) -> bool {
        // On the way there it got more labels: the cluster's, and the team's.
        let is_of = |labels: &Labels| alert.labels.iter().all(|it| labels.get(it.0) == Some(it.1));
        self.sent
            .iter()
            .any(|(labels, suppressed)| *suppressed && is_of(labels))
    }

    /// Receivers that heard of it since it began, and how. Alertmanager's own list names all of the rotation, on call or not.
    fn receivers(&self, of: &Named) -> BTreeSet<(&str, &str)> {
        let since = of.since();
        let heard = self.heard.iter().filter(|it| {
            it.alerts.iter().any(|name| name == of.name())
                && since.is_some_and(|since| it.at >= since)
        });
        heard
            .map(|it| (it.receiver.as_str(), it.channel.name()))
            .collect()
    }
}

/// Alerts that are pending or firing, those that fire first.
pub(crate) fn alerts(alerts: &Result<Vec<Alert>, Trouble>, told: &Result<Told, Trouble>) -> Markup {
    html! {
        @if let Err(trouble) = told { (trouble) p.quiet { "Nobody is told of alerts meanwhile." } }
        @match alerts.as_ref().map(|alerts| Named::all(alerts)) {
            Err(trouble) => (trouble),
            Ok(rows) if rows.is_empty() => p.empty { "None is pending or firing." },
            Ok(rows) => ul.alerts { @for row in &rows { (item(row, told.as_ref().ok())) } },
        }
    }
}

fn item(alert: &Named, told: Option<&Told>) -> Markup {
    let (series, firing) = (alert.0.len(), alert.firing());
    let suppressed = |told: &Told| alert.0.iter().filter(|it| told.is_suppressed(it)).count();
    let suppressed = told.map_or(0, suppressed);
    let receivers = told.map(|told| told.receivers(alert)).unwrap_or_default();
    html! {
        li data-alert=(alert.name()) {
            @if firing > 0 { span.state.bad { "firing" } } @else { span.state.warn { "pending" } }
            " " strong { (alert.name()) }
            @for severity in alert.said(|it| Some(it.label("severity"))) { " " span.quiet { (severity) } }
            @if series > 1 {
                " " span.quiet { @if (1..series).contains(&firing) { (firing) " of " } (series) " series" }
            }
            @if suppressed > 0 {
                " " span.state { @if suppressed < series { (suppressed) " " } "silenced" }
            }
            @if let Some(since) = alert.since() {
                " " span.quiet { "since " time datetime=(since) { (since.strftime("%T")) " UTC" } }
            }
            @for summary in alert.said(|it| it.annotations.get("summary").map(String::as_str)) { br; (summary) " " }
            @if let Some(runbook) = alert.0.iter().find_map(|it| runbook(it)) {
                a href=(runbook) aria-label={ "What to do about " (alert.name()) } { "What to do" }
            }
            @if !receivers.is_empty() {
                br;
                span.quiet {
                    "told: "
                    @for (n, (receiver, channel)) in receivers.iter().enumerate() {
                        @if n > 0 { ", " }
                        (receiver) " by " (channel)
                    }
                }
            }
        }
    }
}

/// The playbook's section: an address of the web, or a document of the project, which this console serves.
fn runbook(alert: &Alert) -> Option<String> {
    let address = alert.annotations.get("runbook_url")?;
    let on_the_web = address.starts_with("http://") || address.starts_with("https://");
    match address.strip_prefix("docs/") {
        Some(document) => Some(format!("/docs/{document}")),
        None => on_the_web.then(|| address.clone()),
    }
}

fn on_call(console: &Console) -> Markup {
    let now = Timestamp::now();
    let roster = console.args.project.as_ref().map(|project| {
        let file = project.join("alertmanager/oncall.yaml");
        let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
        Roster::parse(&file, &text).map_err(|error| error.to_string())
    });
    html! {
        section aria-labelledby="on-call" {
            h2 #on-call { "On call now" }
            @match roster {
                None => p.empty { "The rotation is not known here." },
                Some(Err(error)) => p.trouble role="status" { (error) },
                Some(Ok(roster)) => dl.people {
                    @let who = roster.who(now);
                    @for role in Role::ALL {
                        dt { (role.name()) }
                        dd data-on-call=(role.name()) {
                            @match who.one(role) {
                                Some(person) => strong { (person) },
                                None => span.state.bad { "nobody" },
                            }
                            @if let (_, Some(until)) = roster.turn_of(role, now) {
                                " " span.quiet { "until " (until.strftime("%a %F %H:%M")) " UTC" }
                            }
                        }
                    }
                },
            }
            p.quiet { a href="/docs/oncall.md" { "The rotation" } }
        }
    }
}

/// What `lab verify` leaves behind.
#[derive(Debug, Deserialize)]
struct Verified {
    at: Timestamp,
    report: Report,
}

#[derive(Debug, Deserialize)]
struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    n: u8,
    name: String,
    ok: bool,
    hint: Option<String>,
}

fn verified(console: &Console) -> Markup {
    let file = console.lab.as_ref().map(stack::Layout::verified_file);
    let verified = file
        .and_then(|file| std::fs::read(file).ok())
        .and_then(|json| serde_json::from_slice::<Verified>(&json).ok());
    html! {
        section aria-labelledby="verified" {
            h2 #verified { "What is proven" }
            @match verified {
                None => p.empty { "Nobody has asked on this data directory yet: " code { "lab verify" } " proves eight things in about a minute." },
                Some(verified) => {
                    p.quiet { "by " code { "lab verify" } " at " time datetime=(verified.at) { (verified.at.strftime("%F %T")) " UTC" } ", "
                        (verified.report.rows.iter().filter(|row| row.ok).count()) " of " (verified.report.rows.len()) " hold"
                    }
                    ul.verified {
                        @for row in &verified.report.rows {
                            li {
                                @if row.ok { span.state.good { "pass" } } @else { span.state.bad { "fail" } }
                                " " (row.n) ". " (row.name)
                                @if let (false, Some(hint)) = (row.ok, &row.hint) { br; span.quiet { (hint) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn pillars(board: Option<&Board>) -> Markup {
    let Some(board) = board else {
        return html! {
            section aria-labelledby="components" {
                h2 #components { "Components" }
                p.empty { "This console is not part of a lab, which alone knows its components." }
            }
        };
    };
    let of = |names: &'static [&'static str], is_first: bool| {
        board.components.iter().filter(move |status| {
            let placed = PILLARS
                .iter()
                .any(|(_, _, names)| names.contains(&&*status.name));
            names.contains(&&*status.name) || (is_first && !placed)
        })
    };
    html! {
        div.pillars {
            @for (number, (title, what, names)) in PILLARS.iter().enumerate() {
                section aria-labelledby={ "pillar-" (number) } {
                    h2 id={ "pillar-" (number) } { (title) " " span.quiet { (what) } }
                    ul.components { @for status in of(names, number == 0) { (component(status)) } }
                }
            }
            p.quiet { (mebibytes(board.total_rss())) " of memory in all. " code { "lab doctor" } " says how to get what is absent." }
        }
    }
}

fn component(status: &Status) -> Markup {
    let class = match status.state {
        stack::State::Ready => "good",
        stack::State::Starting => "warn",
        stack::State::Failed | stack::State::Stopped => "bad",
        stack::State::Absent => "",
    };
    let address = status.ports.get("http");
    html! {
        li data-component=(status.name) {
            span class={ "state " (class) } { (status.state.to_string()) }
            span {
                @match (address, status.state) {
                    (Some(port), stack::State::Ready) if status.name != "console" => a href={ "http://" (HOST) ":" (port) "/" } { (status.name) },
                    _ => strong { (status.name) },
                }
                " " span.quiet { (status.role) @if status.rss_bytes > 0 { ", " (mebibytes(status.rss_bytes)) } }
                @if let (Some(detail), "warn" | "bad") = (&status.detail, class) { br; span.quiet { (detail) } }
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use inbox::Channel;

    use super::*;

    #[test]
    fn every_component_has_its_pillar() {
        for component in stack::table::COMPONENTS {
            let placed = PILLARS
                .iter()
                .filter(|(_, _, names)| names.contains(&component.name));
            assert_eq!(placed.count(), 1, "{}", component.name);
        }
        for name in PILLARS.iter().flat_map(|(_, _, names)| *names) {
            stack::table::find(name).unwrap();
        }
    }

    #[test]
    fn small_shares_are_not_shown_as_nothing() {
        let shown = [0.0, 0.000_12, 0.0123, 0.5, 1.0, -1.5].map(percent);
        assert_eq!(
            shown,
            ["0 %", "0.012 %", "1.23 %", "50 %", "100 %", "-150 %"]
        );
    }

    #[test]
    fn an_alert_is_one_row_with_all_who_were_told_of_it() {
        let alert = |name: &str, route: &str, firing, at: &str| {
            let labels = [
                ("alertname", name),
                ("route", route),
                ("severity", "warning"),
            ];
            let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            Alert {
                labels: labels.map(own).into(),
                annotations: [("summary", "Handlers fail")].map(own).into(),
                firing,
                active_at: format!("2026-11-28T10:00:{at}Z"),
                value: String::new(),
            }
        };
        let message = |receiver: &str, channel, status, at: &str| Message {
            id: 1,
            channel,
            receiver: receiver.into(),
            status,
            alerts: vec!["Failing".into()],
            received_at: format!("2026-11-28T10:00:{at}Z").parse().unwrap(),
            payload: serde_json::Value::Null,
        };
        let found = vec![
            alert("Slow", "/a", false, "01"),
            alert("Failing", "/a", true, "05"),
            alert("Failing", "/b", false, "03.5"),
            alert("Failing", "/c", true, "04"),
        ];
        let mut silenced = found[3].labels.clone();
        silenced.insert("cluster".into(), "three-pillars".into());
        let (firing, resolved) = (inbox::Status::Firing, inbox::Status::Resolved);
        let messages = [
            message("slack-shop", Channel::Slack, firing, "40"),
            message("slack-shop", Channel::Slack, firing, "10"),
            message("oncall-third", Channel::Pagerduty, firing, "10"),
            message("email-shop", Channel::Email, resolved, "10"),
            message("email-platform", Channel::Email, firing, "02"),
        ];
        let told = Told {
            sent: vec![(silenced, true), (found[1].labels.clone(), false)],
            heard: messages.iter().filter_map(Heard::of).collect(),
        };
        assert_eq!(Named::all(&found).len(), 2);
        let html = alerts(&Ok(found), &Ok(told)).into_string();
        let (failing, slow) = html.split_once(r#"data-alert="Slow""#).unwrap();
        assert_eq!(html.matches("data-alert").count(), 2, "{html}");
        assert_eq!(failing.matches("Handlers fail").count(), 1, "{html}");
        for part in ["2 of 3 series", "1 silenced", "10:00:03 UTC"] {
            assert!(failing.contains(part), "{part}: {html}");
        }
        let told = "told: oncall-third by pagerduty, slack-shop by slack<";
        assert!(failing.contains(told), "{html}");
        assert!(
            slow.contains("pending") && !failing.contains("pending"),
            "{html}"
        );
        assert!(!slow.contains("told") && !slow.contains("series"), "{html}");
    }

    #[test]
    fn a_runbook_is_a_document_here_or_an_address_of_the_web() {
        let alert = |address: &str| Alert {
            labels: [].into(),
            annotations: [("runbook_url".to_owned(), address.to_owned())].into(),
            firing: true,
            active_at: String::new(),
            value: String::new(),
        };
        let of = |address| runbook(&alert(address));
        assert_eq!(
            of("docs/alerting-playbook.md#a").as_deref(),
            Some("/docs/alerting-playbook.md#a")
        );
        assert_eq!(of("https://a/b").as_deref(), Some("https://a/b"));
        assert_eq!(of("javascript:alert(1)"), None);
    }
}
