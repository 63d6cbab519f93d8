//! What people see of a lab: progress while it starts, a table, a line that lives.

use std::{collections::HashMap, fmt::Write as _, io::Write as _, sync::Mutex, time::Duration};

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stack::{Board, HOST, Source, State, Status, table};
use terminal::style;
use tokio::sync::watch;

const TICK: Duration = Duration::from_millis(120);

/// Prints a line. A reader that has gone away, as `head` does, is no reason to end a lab.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A spinner with a message; nothing where standard error is no terminal.
pub(crate) fn spinner(message: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(TICK);
    bar
}

/// Lines that tell how far each component is: moving ones on a terminal, otherwise one printed
/// whenever there is something new to say.
pub(crate) struct Steps {
    bars: MultiProgress,
    lines: Mutex<HashMap<String, Line>>,
}

struct Line {
    bar: ProgressBar,
    said: String,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self {
            bars: MultiProgress::new(),
            lines: Mutex::default(),
        }
    }

    /// Adds a line for a component.
    pub(crate) fn add(&self, name: &str) {
        let bar = self.bars.add(
            ProgressBar::new(0)
                .with_prefix(name.to_owned())
                .with_style(bar_style(false)),
        );
        bar.enable_steady_tick(TICK);
        self.lines().insert(
            name.to_owned(),
            Line {
                bar,
                said: String::new(),
            },
        );
    }

    /// Shows what a component is doing.
    pub(crate) fn show(&self, name: &str, step: &str, part: Option<(u64, u64)>) {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(name) else {
            return;
        };
        line.bar.set_style(bar_style(part.is_some()));
        if let Some((done, total)) = part {
            line.bar.set_length(total);
            line.bar.set_position(done);
        }
        line.bar.set_message(step.to_owned());
        // Without a terminal a new line every quarter is enough.
        let quarter = part.map(|(done, total)| done * 4 / total.max(1) * 25);
        let said = quarter.map_or_else(
            || step.to_owned(),
            |percent| format!("{step} ({percent} %)"),
        );
        self.say(name, line, said);
    }

    /// Shows the end of a component's line.
    pub(crate) fn finish(&self, name: &str, result: &str) {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(name) else {
            return;
        };
        line.bar.set_style(bar_style(false));
        line.bar.finish_with_message(result.to_owned());
        self.say(name, line, terminal::strip_ansi_codes(result).into_owned());
    }

    /// Takes the lines away.
    pub(crate) fn clear(&self) {
        for (_, line) in self.lines().drain() {
            line.bar.finish_and_clear();
        }
    }

    fn say(&self, name: &str, line: &mut Line, said: String) {
        if self.bars.is_hidden() && line.said != said && !said.is_empty() {
            say(&format!("{name}: {said}"));
            line.said = said;
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<String, Line>> {
        self.lines
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn bar_style(counts: bool) -> ProgressStyle {
    let template = if counts {
        "{spinner} {prefix:22} {msg} {bar:24} {pos}/{len}"
    } else {
        "{spinner} {prefix:22} {msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Follows a starting lab until every component has got as far as it will.
pub(crate) async fn follow_start(board: &mut watch::Receiver<Board>) {
    let steps = Steps::new();
    for status in board
        .borrow()
        .components
        .iter()
        .filter(|status| !is_optional(&status.name))
    {
        steps.add(&status.name);
    }
    loop {
        let now = board.borrow_and_update().clone();
        for status in &now.components {
            match status.state {
                State::Starting => {
                    let step = status.detail.as_deref().unwrap_or(if status.pid.is_some() {
                        "starting"
                    } else {
                        ""
                    });
                    steps.show(&status.name, step, status.part);
                }
                _ => steps.finish(&status.name, &outcome(status)),
            }
        }
        if now.is_settled() || board.changed().await.is_err() {
            break;
        }
    }
    steps.clear();
}

fn outcome(status: &Status) -> String {
    let word = painted(status.state);
    match (&status.detail, status.ready_after_ms) {
        (Some(detail), _) => format!("{word}: {detail}"),
        (None, Some(after)) => format!(
            "{word} after {:.1} s",
            Duration::from_millis(after).as_secs_f64()
        ),
        (None, None) => word.to_string(),
    }
}

fn painted(state: State) -> terminal::StyledObject<State> {
    match state {
        State::Ready => style(state).green(),
        State::Failed => style(state).red().bold(),
        State::Starting => style(state).yellow(),
        State::Absent | State::Stopped => style(state).dim(),
    }
}

/// What happened to components between two boards.
pub(crate) fn news(before: &Board, after: &Board) -> Vec<String> {
    let changed = after.components.iter().filter(|status| {
        before
            .get(&status.name)
            .is_some_and(|old| old.state != status.state)
            && is_shown(status)
    });
    changed.map(explain).collect()
}

/// A component's state with everything that helps to mend it.
fn explain(status: &Status) -> String {
    let mut text = format!("{} {}", status.name, outcome(status));
    for line in &status.last_lines {
        let _ = write!(text, "\n  | {line}");
    }
    if status.state == State::Failed {
        if let Some(log) = &status.log {
            let _ = write!(text, "\n  its whole log: {}", log.display());
        }
        text.push_str("\n  the rest goes on; to try again, end the lab and start it anew");
    }
    text
}

/// Everything that is not as it should be, explained.
pub(crate) fn troubles(board: &Board) -> Vec<String> {
    let troubled = |status: &&Status| match status.state {
        State::Failed => true,
        State::Absent => !is_optional(&status.name),
        _ => false,
    };
    board
        .components
        .iter()
        .filter(troubled)
        .map(explain)
        .collect()
}

/// Columns below which the table leaves out what can be looked up elsewhere.
const WIDE: u16 = 120;

/// What runs where. Nothing in it is wrapped, so that names and addresses can be copied.
pub(crate) fn table(board: &Board) -> String {
    let wide = terminal::Term::stdout()
        .size_checked()
        .is_none_or(|(_, columns)| columns >= WIDE);
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let row = |cells: [Cell; 6]| {
        let [name, state, place, role, version, memory] = cells;
        if wide {
            vec![name, state, place, role, version, memory]
        } else {
            vec![name, state, place, memory]
        }
    };
    table.set_header(row([
        "component",
        "state",
        "where",
        "what",
        "version",
        "memory",
    ]
    .map(|title| Cell::new(title).add_attribute(Attribute::Bold))));
    for status in board.components.iter().filter(|status| is_shown(status)) {
        let colour = match status.state {
            State::Ready => Color::Green,
            State::Failed => Color::Red,
            State::Starting => Color::Yellow,
            State::Absent | State::Stopped => Color::DarkGrey,
        };
        let memory = if status.rss_bytes == 0 {
            String::new()
        } else {
            mib(status.rss_bytes)
        };
        table.add_row(row([
            Cell::new(&status.name),
            Cell::new(status.state).fg(colour),
            Cell::new(address(status)),
            Cell::new(&status.role),
            Cell::new(status.version.as_deref().unwrap_or("")),
            Cell::new(memory).set_alignment(CellAlignment::Right),
        ]));
    }
    let optional: Vec<&str> = board
        .components
        .iter()
        .filter(|status| !is_shown(status))
        .map(|status| status.name.as_str())
        .collect();
    let mut text = format!("{}\n\n{} in all", table.trim_fmt(), mib(board.total_rss()));
    if !optional.is_empty() {
        let _ = write!(
            text,
            "; not started by this lab: {} (see `lab doctor`)",
            optional.join(", ")
        );
    }
    text
}

/// Its page, or the first of its ports; all of them are in `lab status --json`.
fn address(status: &Status) -> String {
    if let Some(port) = status.ports.get("http") {
        return format!("http://{HOST}:{port}");
    }
    let first = table::find(&status.name)
        .ok()
        .and_then(|component| component.ports.first());
    let port = first.and_then(|port| Some((port.name, status.ports.get(port.name)?)));
    port.map(|(name, port)| format!("{HOST}:{port} ({name})"))
        .unwrap_or_default()
}

/// Memory in words.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

/// Where to look first.
pub(crate) fn first_steps(board: &Board) -> String {
    let url = |component: &str, path: &str| {
        let port = board
            .get(component)
            .filter(|status| status.state == State::Ready)?
            .ports
            .get("http")?;
        Some(format!("http://{HOST}:{port}{path}"))
    };
    let places = [
        ("dashboards", url("grafana", "/d/overview")),
        ("the API", url("flask-api-1", "/api/products")),
        (
            "metrics",
            url(
                "prometheus",
                "/graph?g0.expr=sum%20by%20(route)%20(rate(flask_requests_total%5B1m%5D))&g0.tab=0",
            ),
        ),
        (
            "logs",
            url(
                "elasticsearch",
                "/flask-logs-*/_search?q=event.dataset:flask-api.access&sort=@timestamp:desc&pretty",
            ),
        ),
        (
            "traces",
            url("jaeger", "/api/traces?service=flask-api&limit=5"),
        ),
    ];
    places
        .iter()
        .filter_map(|(what, url)| Some(format!("  {what:10} {}", url.as_ref()?)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What the user has to bring is shown when it is there.
fn is_shown(status: &Status) -> bool {
    !is_optional(&status.name) || matches!(status.state, State::Ready | State::Failed)
}

/// Whether the stack works without it: what the user has to bring.
pub(crate) fn is_optional(name: &str) -> bool {
    table::find(name).is_ok_and(|component| matches!(component.source, Source::External { .. }))
}
