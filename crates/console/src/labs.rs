//! The labs of the workshop: what to do, and their checks, carried out by `lab check`.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use stack::Layout;
use tokio::sync::OnceCell;

use crate::{
    Console,
    faults::Form,
    page::{Page, Place},
    program::Program,
};

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route("/labs", web::get().to(list))
        .route("/labs/{name}", web::get().to(show))
        .route("/labs/{name}/check", web::post().to(check));
}

/// The labs, and the checks that go on.
#[derive(Debug)]
pub(crate) struct Labs {
    program: Option<Program>,
    /// Where checks write down what they found.
    place: Option<Layout>,
    list: OnceCell<Vec<Lab>>,
    checks: Mutex<BTreeMap<String, Check>>,
}

/// A check that was started here; what it found, it has written down.
#[derive(Debug, Clone, PartialEq)]
enum Check {
    GoesOn,
    Ended,
    /// It found nothing, and why.
    Failed(String),
}

/// What `lab labs --json` prints.
#[derive(Debug, Deserialize)]
struct Listing {
    labs: Vec<Lab>,
}

#[derive(Debug, Deserialize)]
struct Lab {
    lab: u8,
    /// Its folder.
    name: String,
    title: String,
    /// What the learner reads, in Markdown.
    text: String,
}

/// What the last check of a lab found.
#[derive(Debug, Deserialize)]
struct LastCheck {
    at: Timestamp,
    report: Report,
}

#[derive(Debug, Deserialize)]
struct Report {
    ok: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    name: String,
    ok: bool,
    evidence: Vec<String>,
    hint: Option<String>,
}

impl Labs {
    pub(crate) fn new(place: Option<Layout>, program: Option<Program>) -> Self {
        Self {
            program,
            place,
            list: OnceCell::new(),
            checks: Mutex::default(),
        }
    }

    fn program(&self) -> Result<&Program, String> {
        let program = self.program.as_ref();
        program.ok_or_else(|| {
            "This console is not part of a lab, which alone has a workshop around it.".into()
        })
    }

    /// All of them; asked for once.
    async fn list(&self) -> Result<&[Lab], String> {
        let program = self.program()?;
        let list = self.list.get_or_try_init(|| async {
            let mut command = program.command();
            command.args(["labs", "--json"]).kill_on_drop(true);
            let output = command.output().await.map_err(|error| error.to_string())?;
            let listing: Listing = serde_json::from_slice(&output.stdout)
                .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())?;
            Ok(listing.labs)
        });
        let list: Result<_, String> = list.await;
        list.map(Vec::as_slice)
            .map_err(|why| format!("`lab labs` does not work: {why}"))
    }

    async fn find(&self, name: &str) -> Result<&Lab, HttpResponse> {
        let list = self.list().await;
        let list = list.map_err(|why| trouble(StatusCode::SERVICE_UNAVAILABLE, &why))?;
        let lab = list.iter().find(|lab| lab.name == name);
        lab.ok_or_else(|| trouble(StatusCode::NOT_FOUND, &format!("There is no lab {name}.")))
    }

    fn last_check(&self, lab: &Lab) -> Option<LastCheck> {
        let file = self.place.as_ref()?.checked_file(lab.lab);
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<String, Check>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may begin; not while it goes on.
    fn begin(&self, name: &str) -> bool {
        let before = self.checks().insert(name.to_owned(), Check::GoesOn);
        before != Some(Check::GoesOn)
    }

    /// Has a lab checked, to the end.
    async fn check(&self, lab: u8) -> Check {
        /// Of `lab check`: steps are open.
        const NOT_SO: i32 = 1;
        let mut command = match self.program() {
            Ok(program) => program.command(),
            Err(why) => return Check::Failed(why),
        };
        command
            .args(["check", "--json", &lab.to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match command.output().await {
            Ok(output) if output.status.success() => Check::Ended,
            Ok(output) if output.status.code() == Some(NOT_SO) && !output.stdout.is_empty() => {
                Check::Ended
            }
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr);
                Check::Failed(format!("`lab check {lab}` does not work: {}", words.trim()))
            }
            Err(error) => Check::Failed(format!("`lab check {lab}` cannot be started: {error}")),
        }
    }
}

impl Lab {
    fn page(&self) -> String {
        format!("/labs/{}", self.name)
    }
}

/// How far the learner was.
fn state(last_check: Option<&LastCheck>) -> Markup {
    let Some(LastCheck { report, .. }) = last_check else {
        return html! { span.state { "not checked" } };
    };
    let done = report.steps.iter().filter(|step| step.ok).count();
    html! {
        @if report.ok { span.state.good { "done" } }
        @else { span.state.warn { (done) " of " (report.steps.len()) " steps" } }
    }
}

async fn list(console: web::Data<Console>) -> HttpResponse {
    let main = html! {
        h1 { "Labs" }
        p { "A workshop on what runs here. Each lab says what to do, and grades itself on what Prometheus, Alertmanager, Elasticsearch and Jaeger say." }
        (all(&console).await)
    };
    Page::new(Place::Labs, "Labs", main).respond()
}

async fn all(console: &Console) -> Markup {
    let labs = &console.labs;
    html! {
        @match labs.list().await {
            Err(why) => p.trouble role="status" { (why) },
            Ok([]) => p.empty { "There are no labs in this clone." },
            Ok(list) => ol.labs #labs-now data-live {
                @for lab in list {
                    li data-lab=(lab.lab) { (state(labs.last_check(lab).as_ref())) " " (lab.lab) ". " a href=(lab.page()) { (lab.title) } }
                }
            },
        }
    }
}

/// The part of the page where things are broken.
pub(crate) async fn part(console: &Console) -> Markup {
    html! {
        section aria-labelledby="labs" {
            h2 #labs { "Labs" }
            p { "Break things with a purpose: each lab of the workshop says what to do, and checks what became of it." }
            (all(console).await)
        }
    }
}

async fn show(console: web::Data<Console>, name: web::Path<String>) -> HttpResponse {
    let lab = match console.labs.find(&name).await {
        Ok(lab) => lab,
        Err(trouble) => return trouble,
    };
    let last_check = console.labs.last_check(lab);
    let going_on = console.labs.checks().get(&lab.name).cloned();
    let main = html! {
        p.quiet { (state(last_check.as_ref())) " " a href="#check" { "Check" } " · " a href="/labs" { "All labs" } }
        (inbox::rendered(&lab.text, &format!("labs/{}", lab.name)))
        section aria-labelledby="check" {
            h2 #check { "Lab " (lab.lab) ": is it done?" }
            div #check-now data-live { (result(last_check.as_ref(), going_on.as_ref())) }
            form method="post" action={ (lab.page()) "/check" } {
                (console.token.field())
                button #start-check { "Check" }
                " " span.quiet { "the same as " code { "lab check " (lab.lab) } "; your files are in labs/" (lab.name) "/work, where " code { "lab labs start " (lab.lab) } " lays them out" }
            }
        }
    };
    Page::new(Place::Labs, &lab.title, main).respond()
}

fn result(last_check: Option<&LastCheck>, check: Option<&Check>) -> Markup {
    html! {
        @match check {
            Some(Check::GoesOn) => p role="status" { span.state.warn { "being checked" } },
            Some(Check::Failed(why)) => p.trouble role="alert" { (why) },
            Some(Check::Ended) | None => {}
        }
        @if let Some(LastCheck { at, report }) = last_check {
            p.quiet { (state(last_check)) " at " time datetime=(at) { (at.strftime("%F %T")) " UTC" } }
            ol.steps {
                @for step in &report.steps {
                    li {
                        @if step.ok { span.state.good { "done" } } @else { span.state.warn { "open" } }
                        " " strong { (step.name) }
                        @for line in &step.evidence { br; span.quiet { (line) } }
                        @if let Some(hint) = &step.hint { br; (hint) }
                    }
                }
            }
        } @else if check != Some(&Check::GoesOn) {
            p.empty { "Not checked yet." }
        }
    }
}

async fn check(
    request: HttpRequest,
    name: web::Path<String>,
    form: web::Form<Form>,
    console: web::Data<Console>,
) -> HttpResponse {
    if let Some(refusal) = console.token.refusal(&request, form.token()) {
        return refusal;
    }
    let (number, page) = match console.labs.find(&name).await {
        Ok(lab) => (lab.lab, lab.page()),
        Err(trouble) => return trouble,
    };
    if console.labs.begin(&name) {
        // It takes some seconds; the page shows that it goes on, and then what it found.
        actix_web::rt::spawn(async move {
            let ended = console.labs.check(number).await;
            console.labs.checks().insert(name.into_inner(), ended);
        });
    }
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("{page}#check")))
        .finish()
}

fn trouble(status: StatusCode, why: &str) -> HttpResponse {
    let main = html! {
        h1 { "Labs" }
        p.trouble role="alert" { (why) }
        p { a href="/labs" { "All labs" } }
    };
    Page::new(Place::Labs, "Labs", main)
        .with_status(status)
        .respond()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn last(ok: bool) -> LastCheck {
        let steps = json!([
            { "n": 1, "name": "a", "ok": true, "evidence": ["<script>"] },
            { "n": 2, "name": "b", "ok": ok, "evidence": ["no"], "hint": "do <b>it</b>" },
        ]);
        let last = json!({ "at": "2026-11-25T10:00:00Z", "report": { "ok": ok, "steps": steps } });
        serde_json::from_value(last).unwrap()
    }

    #[test]
    fn how_far_somebody_is_stands_there_escaped() {
        let said = |last: Option<&LastCheck>| state(last).into_string();
        assert!(said(None).contains("not checked"));
        assert!(said(Some(&last(false))).contains("1 of 2 steps"));
        assert!(said(Some(&last(true))).contains("done"));
        let shown = result(Some(&last(false)), None).into_string();
        assert!(
            shown.contains("&lt;script&gt;") && shown.contains("do &lt;b&gt;it"),
            "{shown}"
        );
        let shown = result(None, Some(&Check::GoesOn)).into_string();
        assert!(
            shown.contains("being checked") && !shown.contains("Not checked"),
            "{shown}"
        );
    }

    #[test]
    fn a_check_begins_once_at_a_time() {
        let labs = Labs::new(None, None);
        assert!(labs.begin("a") && !labs.begin("a") && labs.begin("b"));
        labs.checks().insert("a".into(), Check::Ended);
        assert!(labs.begin("a"));
    }
}
