//! The dashboards of `grafana/dashboards`, drawn with live data: the files that Grafana would draw, read when somebody looks.

mod ask;
mod board;
mod draw;
mod field;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use actix_web::{HttpResponse, http::StatusCode, web};
use dashboards::{
    model::{Annotation, DataSourceKind, Panel, PanelKind, Variable, VariableKind},
    query::{self, ALL, Context, Selection},
};
use futures::{StreamExt as _, future, stream};
use jiff::Timestamp;
use maud::{Markup, html};
use plots::Colour;

use self::{
    ask::{Asked, Event},
    board::{Board, Tile},
    draw::Drawing,
};
use crate::{
    Console, choice,
    choice::{Pairs, Range},
    page::{Page, Place},
};

/// Where a learner of the workshop makes a dashboard; it is drawn with the others.
pub const OF_LEARNER: &str = "labs/03-dashboards/work";

/// Panels that are asked for at the same time.
const AT_A_TIME: usize = 6;

/// Points across a panel: more than that are not told apart.
const POINTS_OF_COLUMN: u32 = 12;

/// Marks of one kind.
const MOST_EVENTS: usize = 100;

pub(crate) fn register(routes: &mut web::ServiceConfig) {
    routes
        .route("/dashboards", web::get().to(list))
        .route("/dashboards/{uid}", web::get().to(page))
        // What Grafana calls it: links in messages and dashboards lead there.
        .route("/d/{uid}", web::get().to(page))
        .route("/d/{uid}/{name}", web::get().to(page_of_grafana));
}

impl Console {
    fn project(&self) -> Option<&PathBuf> {
        self.args.project.as_ref()
    }

    fn boards(&self) -> (Vec<Board>, Vec<String>) {
        match self.project() {
            Some(project) => {
                let (mut boards, mut wrong) = Board::all(&project.join(dashboards::DIRECTORY));
                let of_learner = project.join(OF_LEARNER);
                // It is there once the lab has begun.
                if of_learner.is_dir() {
                    let (own, own_wrong) = Board::all(&of_learner);
                    boards.extend(own);
                    wrong.extend(own_wrong);
                }
                (boards, wrong)
            }
            None => {
                let why =
                    "no project is named, and the dashboards are in its files: --project names it";
                (Vec::new(), vec![why.into()])
            }
        }
    }

    /// Time between two scrapes, by which windows of rates are chosen.
    fn scrape_interval(&self) -> Duration {
        /// Prometheus' own.
        const USUAL: Duration = Duration::from_secs(60);
        let interval = self
            .project()
            .and_then(|project| dashboards::scrape_interval(project).ok());
        interval.unwrap_or(USUAL)
    }
}

async fn list(console: web::Data<Console>) -> HttpResponse {
    let (boards, wrong) = console.boards();
    let main = html! {
        h1 { "Dashboards" }
        p.quiet { "Drawn here from the files that Grafana provisions, for machines without Grafana." }
        @for why in &wrong { p.trouble role="alert" { (why) } }
        ul.cards {
            @for board in &boards {
                li {
                    h2 { a href={ "/dashboards/" (board.about.uid) } { (board.about.title) } }
                    p { (board.about.description) }
                    p.quiet { (panels(board)) " panels" }
                }
            }
        }
        @if boards.is_empty() && wrong.is_empty() { p.empty { "There is no file in " code { (dashboards::DIRECTORY) } "." } }
    };
    Page::new(Place::Dashboards, "Dashboards", main).respond()
}

fn panels(board: &Board) -> usize {
    let rows = |tile: &&Tile| matches!(tile, Tile::Panel(panel) if panel.kind == PanelKind::Row);
    board.tiles.len() - board.tiles.iter().filter(rows).count()
}

async fn page_of_grafana(
    console: web::Data<Console>,
    path: web::Path<(String, String)>,
    pairs: web::Query<Pairs>,
) -> HttpResponse {
    show(&console, &path.0, &pairs).await
}

async fn page(
    console: web::Data<Console>,
    uid: web::Path<String>,
    pairs: web::Query<Pairs>,
) -> HttpResponse {
    show(&console, &uid, &pairs).await
}

async fn show(console: &Console, uid: &str, pairs: &Pairs) -> HttpResponse {
    let (boards, wrong) = console.boards();
    let Some(board) = boards.iter().find(|it| it.about.uid == uid) else {
        let main = html! {
            h1 { "There is no dashboard " code { (uid) } }
            @for why in &wrong { p.trouble role="alert" { (why) } }
            ul { @for it in &boards { li { a href={ "/dashboards/" (it.about.uid) } { (it.about.title) } } } }
        };
        let page = Page::new(Place::Dashboards, "No such dashboard", main);
        return page.with_status(StatusCode::NOT_FOUND).respond();
    };
    let about = &board.about;
    let usual = (about.time.from.as_str(), about.time.to.as_str());
    let (range, mistake) = Range::read(pairs, usual, Timestamp::now());
    let refresh = choice::refresh(pairs, &about.refresh);
    let every = refresh.as_deref().and_then(choice::duration);
    let context = |points: u32| {
        let scrape_interval = console.scrape_interval();
        Context::new(range.from_ms, range.to_ms, points, scrape_interval).opened(about)
    };
    let mut whole = context(POINTS_OF_COLUMN * 24);
    whole
        .variables
        .extend(picked(pairs, &about.templating.list));
    let (choices, drawn) = futures::join!(
        choices(console, board, &whole),
        drawn(console, board, &range, &whole)
    );
    let main = html! {
        div.board-head {
            h1 { (about.title) }
            nav.boards aria-label="Dashboards" {
                @for it in &boards {
                    a href=(address(&it.about.uid, &range, refresh.as_deref(), None)) aria-current=[(it.about.uid == uid).then_some("page")] { (it.about.title) }
                }
            }
        }
        p.quiet { (about.description) }
        @if let Some(why) = &mistake { p.trouble role="alert" { (why) } }
        (controls(board, &range, refresh.as_deref(), pairs, &choices))
        div.grid #panels data-live=[every.map(|_| "")] { (drawn) }
        p.quiet { "Drawn by the console from " code { (dashboards::DIRECTORY) "/" (uid) ".json" } ", not by Grafana. Times are UTC." }
    };
    let title = about.title.clone();
    Page::new(Place::Dashboards, title, main)
        .wide()
        .refreshed(every)
        .respond()
}

/// The address of a dashboard at the same time, with the variables of `pairs` where it is the same one.
fn address(uid: &str, range: &Range, refresh: Option<&str>, pairs: Option<&Pairs>) -> String {
    let encoded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut address = format!(
        "/dashboards/{}?from={}&to={}&refresh={}",
        encoded(uid),
        encoded(&range.from),
        encoded(&range.to),
        encoded(refresh.unwrap_or_default()),
    );
    let variables = pairs
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("var-"));
    for (name, value) in variables {
        address += &format!("&{}={}", encoded(name), encoded(value));
    }
    address
}

/// What is chosen of each variable that the address names.
fn picked(pairs: &Pairs, variables: &[Variable]) -> BTreeMap<String, Selection> {
    let mut picked = BTreeMap::new();
    for variable in variables
        .iter()
        .filter(|it| it.kind != VariableKind::Datasource)
    {
        let name = format!("var-{}", variable.name);
        let values = pairs
            .iter()
            .filter(|(it, value)| *it == name && !value.is_empty());
        let values: Vec<String> = values.map(|(_, value)| value.clone()).collect();
        let all = values.iter().any(|it| it == ALL);
        if values.is_empty() || (all && !variable.include_all) {
            continue;
        }
        let selection = if all {
            Selection::All(variable.all_value.clone().unwrap_or_else(|| ".*".into()))
        } else if variable.multi {
            Selection::Several(values)
        } else {
            Selection::One(values[0].clone())
        };
        picked.insert(variable.name.clone(), selection);
    }
    picked
}

/// A variable with its values, or why they are not known, and what is chosen.
struct Choice<'a> {
    variable: &'a Variable,
    values: Result<Vec<String>, String>,
    chosen: Vec<String>,
    all: bool,
}

async fn choices<'a>(console: &Console, board: &'a Board, context: &Context) -> Vec<Choice<'a>> {
    let variables = board.about.templating.list.iter();
    let asked = variables
        .filter(|it| it.kind != VariableKind::Datasource)
        .map(|variable| async move {
            let (chosen, all) = match context.variables.get(&variable.name) {
                Some(Selection::One(one)) => (vec![one.clone()], false),
                Some(Selection::Several(values)) => (values.clone(), false),
                Some(Selection::All(_)) | None => (Vec::new(), true),
            };
            Choice {
                variable,
                values: console.values(variable, context).await,
                chosen,
                all,
            }
        });
    future::join_all(asked).await
}

/// Time range, refresh and variables: a form, and links for what is chosen most.
fn controls(
    board: &Board,
    range: &Range,
    refresh: Option<&str>,
    pairs: &Pairs,
    choices: &[Choice<'_>],
) -> Markup {
    let uid = &board.about.uid;
    let quick = |length: &str| Range {
        from: format!("now-{length}"),
        to: "now".into(),
        ..range.clone()
    };
    html! {
        nav.ranges aria-label="Time range" {
            @for length in choice::RANGES {
                @let it = quick(length);
                a href=(address(uid, &it, refresh, Some(pairs))) aria-current=[(it.from == range.from && range.to == "now").then_some("true")] { (length) }
            }
        }
        form.controls action={ "/dashboards/" (uid) } {
            label { "From" input name="from" value=(range.from) size="10" autocomplete="off"; }
            label { "To" input name="to" value=(range.to) size="10" autocomplete="off"; }
            label { "Refresh"
                select name="refresh" {
                    option value="" selected[refresh.is_none()] { "off" }
                    @for it in choice::REFRESHES { option value=(it) selected[refresh == Some(it)] { (it) } }
                    @if let Some(other) = refresh && !choice::REFRESHES.contains(&other) { option value=(other) selected { (other) } }
                }
            }
            @for it in choices { (choice_of(it)) }
            button { "Show" }
        }
    }
}

fn choice_of(choice: &Choice<'_>) -> Markup {
    let Choice {
        variable,
        values,
        chosen,
        all,
    } = choice;
    let name = format!("var-{}", variable.name);
    let summary = match (all, chosen.len()) {
        (true, _) => "all".to_owned(),
        (_, 1) => chosen[0].clone(),
        (_, many) => format!("{many} of them"),
    };
    let mut offered: Vec<&String> = values.iter().flatten().collect();
    // What the address names is kept, whether it is there now or not.
    offered.extend(
        chosen
            .iter()
            .filter(|it| !values.iter().flatten().any(|value| value == *it)),
    );
    let kind = if variable.multi { "checkbox" } else { "radio" };
    html! {
        details.choice id={ "choice-" (variable.name) } {
            summary { (variable.label) ": " strong { (summary) } }
            fieldset {
                legend.plot-hidden { (variable.label) }
                @if variable.include_all {
                    label.check { input type=(kind) name=(name) value=(ALL) checked[*all]; "All" }
                }
                @for value in offered {
                    label.check { input type=(kind) name=(name) value=(value) checked[chosen.contains(value)]; (value) }
                }
                @if let Err(why) = values { p.trouble { (why) } }
            }
        }
    }
}

/// All panels in their places, each with what it asked.
async fn drawn(console: &Console, board: &Board, range: &Range, whole: &Context) -> Markup {
    let contexts: Vec<Context> = board
        .tiles
        .iter()
        .map(|tile| of_panel(tile, whole))
        .collect();
    let asked = board
        .tiles
        .iter()
        .zip(&contexts)
        .map(|(tile, context)| async move {
            let Tile::Panel(panel) = tile else {
                return Vec::new();
            };
            future::join_all(panel.targets.iter().map(|it| console.asked(it, context))).await
        });
    let asked = stream::iter(asked)
        .buffered(AT_A_TIME)
        .collect::<Vec<Vec<Asked>>>();
    let annotations = board.about.annotations.list.iter().filter(|it| it.enable);
    let marks = annotations.map(|it| async move { (it, console.events(it, whole).await) });
    let (asked, marks) = futures::join!(asked, future::join_all(marks));
    let annotations: Vec<plots::Annotation> = marks
        .iter()
        .flat_map(|(it, events)| {
            events
                .iter()
                .flatten()
                .take(MOST_EVENTS)
                .map(|event| mark(it, event))
        })
        .collect();
    html! {
        (plots::events(&annotations))
        @for ((tile, context), asked) in board.tiles.iter().zip(&contexts).zip(&asked) {
            @match tile {
                Tile::Unknown { title, kind, place, why } => {
                    section class={ "panel " (class(place)) } {
                        h3 { (title) }
                        p.trouble { "This viewer does not know the panel " code { (kind) } ": " (why) ". Grafana may." }
                    }
                },
                Tile::Panel(panel) if panel.kind == PanelKind::Row => h2.row { (panel.title) },
                Tile::Panel(panel) => (framed(panel, &Drawing { panel, asked, context, times: range.seconds(), annotations: &annotations }, range)),
            }
        }
    }
}

/// The context of a panel: as many points as it has room for, and no fewer seconds between them than it wants.
fn of_panel(tile: &Tile, whole: &Context) -> Context {
    let (columns, wanted, interval) = match tile {
        Tile::Panel(panel) => (
            panel.grid_pos.w,
            panel.max_data_points,
            panel.interval.as_deref().and_then(choice::duration),
        ),
        Tile::Unknown { place, .. } => (place.w, None, None),
    };
    let room = POINTS_OF_COLUMN * columns.clamp(8, 24);
    let points = wanted.map_or(room, |wanted| wanted.min(room));
    let mut context = Context::new(whole.from_ms, whole.to_ms, points, whole.scrape_interval);
    context.step = context.step.max(interval.unwrap_or_default());
    context.variables.clone_from(&whole.variables);
    context
}

fn class(place: &dashboards::model::GridPosition) -> String {
    let (x, w) = (place.x.min(23), place.w.clamp(1, 24));
    format!("x-{x} w-{w} h-{}", place.h.clamp(1, 40))
}

fn mark(of: &Annotation, event: &Event) -> plots::Annotation {
    let title = draw::filled(&of.title_format, &event.labels);
    let text = draw::filled(&of.text_format, &event.labels);
    plots::Annotation {
        from: event.from,
        to: event.to,
        text: format!("{}: {} {}", of.name, title.trim(), text.trim()),
        colour: Colour::parse(&of.icon_color).unwrap_or(Colour::Grey),
    }
}

fn framed(panel: &Panel, drawing: &Drawing<'_>, range: &Range) -> Markup {
    let title = query::plain_text(&panel.title, drawing.context);
    let title = title.unwrap_or_else(|_| panel.title.clone());
    let links = panel.field_config.iter().flat_map(|it| &it.defaults.links);
    html! {
        section class={ "panel " (class(&panel.grid_pos)) } aria-labelledby={ "title-" (panel.id) } {
            header {
                h3 id={ "title-" (panel.id) } { (title) }
                @for link in links {
                    @if let Some(href) = here(&link.url, range) { a href=(href) title=(link.title) { span aria-hidden="true" { "↗" } span.plot-hidden { (link.title) } } }
                }
            }
            (drawing.draw())
            details.query id={ "query-" (panel.id) } {
                summary { @if drawing.asked.len() > 1 { "About, queries" } @else { "About, query" } span.plot-hidden { " of " (title) } }
                p { (panel.description) }
                @for asked in drawing.asked {
                    p.quiet { (asked.ref_id) ", " (who(asked.kind)) }
                    pre { code { (asked.text) } }
                    @if asked.kind == DataSourceKind::Prometheus { a href=(crate::explore::link(&asked.text)) { "Explore" } }
                }
            }
        }
    }
}

fn who(kind: DataSourceKind) -> &'static str {
    match kind {
        DataSourceKind::Prometheus => "Prometheus",
        DataSourceKind::Elasticsearch => "Elasticsearch",
        DataSourceKind::Jaeger => "Jaeger",
    }
}

/// Where a link of Grafana's leads here; nowhere when it needs what only Grafana knows.
fn here(url: &str, range: &Range) -> Option<String> {
    if url.contains("${") {
        return None;
    }
    match url.strip_prefix("/d/") {
        Some(uid) => Some(address(uid.split(['/', '?']).next()?, range, None, None)),
        None => (url.starts_with('/') && !url.starts_with("//")).then(|| url.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Range {
        Range {
            from: "now-15m".into(),
            to: "now".into(),
            from_ms: 0,
            to_ms: 900_000,
        }
    }

    #[test]
    fn grafanas_links_lead_to_pages_of_this_console() {
        let to = |url: &str| here(url, &range());
        assert_eq!(
            to("/d/slo-dashboard").as_deref(),
            Some("/dashboards/slo%2Ddashboard?from=now%2D15m&to=now&refresh=")
        );
        assert_eq!(to("/docs/slo.md").as_deref(), Some("/docs/slo.md"));
        assert_eq!(to("/d/x?var-a=${__field.labels.a}"), None);
        assert_eq!(to("//elsewhere.example"), None);
        assert_eq!(to("javascript:alert(1)"), None);
    }

    #[test]
    fn an_address_keeps_the_variables_and_escapes_them() {
        let pairs = vec![
            ("var-route".to_owned(), "/a&b=\"<".to_owned()),
            ("from".to_owned(), "x".to_owned()),
        ];
        let address = address("it", &range(), Some("10s"), Some(&pairs));
        assert_eq!(
            address,
            "/dashboards/it?from=now%2D15m&to=now&refresh=10s&var%2Droute=%2Fa%26b%3D%22%3C"
        );
    }
}
