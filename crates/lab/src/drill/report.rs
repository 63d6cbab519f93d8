//! What a drill found, for a terminal, for a program, for a reader.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use terminal::style;

use super::{
    clock::{Clock, INTERVAL},
    measure::Outcome,
    table::{Drill, How},
};

/// All that was seen.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    started_at: Timestamp,
    ended_at: Timestamp,
    /// Times faster than the committed rules.
    clock: u64,
    drills: Vec<Outcome>,
    not_here: Vec<NotHere>,
}

#[derive(Debug, Serialize)]
struct NotHere {
    alert: &'static str,
    reason: &'static str,
}

impl Report {
    pub(super) fn new(
        clock: Clock,
        started_at: Timestamp,
        drills: Vec<Outcome>,
        chosen: &[&'static Drill],
    ) -> Self {
        let not_here = chosen.iter().filter_map(|drill| match drill.how {
            How::NotHere(reason) => Some(NotHere {
                alert: drill.alert,
                reason,
            }),
            _ => None,
        });
        Self {
            ok: drills.iter().all(|outcome| outcome.ok),
            started_at,
            ended_at: Timestamp::now(),
            clock: clock.factor(),
            not_here: not_here.collect(),
            drills,
        }
    }

    /// For a terminal.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header([
                "", "ALERT", "PENDING", "FIRING", "TOLD", "ENDED", "TOLD", "",
            ]);
        for outcome in &self.drills {
            let mark = match outcome.ok {
                true => style("pass").green(),
                false => style("FAIL").red().bold(),
            };
            let [pending, firing, notified, ended, resolved] = cells(outcome);
            table.add_row([
                mark.to_string(),
                name(outcome),
                pending,
                firing,
                notified,
                ended,
                resolved,
                remark(outcome),
            ]);
        }
        let mut text = format!("{table}\n\n{}", self.clock_in_words());
        text += "; seconds since the fault, and since its end; / the latest that theory allows";
        if !self.not_here.is_empty() {
            let _ = write!(
                text,
                "\n{} alerts cannot be provoked here: `lab drill --list` says why",
                self.not_here.len()
            );
        }
        text
    }

    fn clock_in_words(&self) -> String {
        match self.clock {
            1 => "real time: rules and routes as they are committed".to_owned(),
            factor => format!(
                "clock {factor}: windows and `for` are {factor} times shorter, but no window holds less than four scrapes"
            ),
        }
    }

    /// For a reader.
    pub(super) fn markdown(&self) -> String {
        let minutes = self.ended_at.duration_since(self.started_at).as_secs() / 60;
        let seen = self.drills.iter().filter(|outcome| outcome.ok).count();
        let mut text = format!(
            "# Fire drill\n\n\
             {} UTC, {minutes} minutes, on a machine with {} CPUs. Made by `lab drill --report`.\n\n\
             {seen} of {} alerts were provoked, seen firing, told as they should be, and seen ending; {} cannot be provoked here.\n\n\
             The {}. Scrape and evaluation every {INTERVAL} s. Figures are seconds, measured / the latest that theory allows: **pending** and **firing** in Prometheus, \
             **told** at the slowest of the channels it is for, all since the fault; **ended** in Prometheus and **told of the end**, \
             since the end of the fault. An alert that is silenced by its cause tells nobody.\n\n",
            self.started_at.strftime("%F %H:%M"),
            std::thread::available_parallelism().map_or(1, usize::from),
            self.drills.len(),
            self.not_here.len(),
            self.clock_in_words(),
        );
        text += "| Alert | Provoked by | Pending | Firing | Told | Ended | Told of the end | |\n|---|---|---|---|---|---|---|---|\n";
        for outcome in &self.drills {
            let [pending, firing, notified, ended, resolved] = cells(outcome);
            let _ = writeln!(
                text,
                "| {}{} | {} | {pending} | {firing} | {notified} | {ended} | {resolved} | {} |",
                name(outcome),
                if outcome.ok { "" } else { " **not seen**" },
                outcome.what,
                remark(outcome),
            );
        }
        if !self.not_here.is_empty() {
            text += "\n## Not provoked\n\n| Alert | Because |\n|---|---|\n";
            for row in &self.not_here {
                let _ = writeln!(text, "| {} | {} |", row.alert, row.reason);
            }
        }
        text
    }
}

fn name(outcome: &Outcome) -> String {
    format!("{} ({})", outcome.alert, outcome.severity)
}

/// Measured beside theory.
fn cells(outcome: &Outcome) -> [String; 5] {
    let (measured, theory) = (&outcome.measured, &outcome.theory);
    let beside = |seconds: Option<f64>, theory: u64| match seconds {
        Some(seconds) => format!("{seconds:.0}/{theory}"),
        None => format!("-/{theory}"),
    };
    let told = |told: &BTreeMap<String, f64>, theory: u64| {
        let first = first_of_each_channel(told);
        let slowest = first.values().copied().reduce(f64::max);
        match (slowest, &outcome.note) {
            (None, Some(_)) => String::new(),
            (slowest, _) => beside(slowest, theory),
        }
    };
    [
        beside(measured.pending, theory.pending),
        beside(measured.firing, theory.firing),
        told(&measured.notified, theory.notified),
        beside(measured.ended, theory.ended),
        told(&measured.resolved, theory.resolved),
    ]
}

/// Of several receivers of a channel the first: the second is who is asked when the first does not answer.
fn first_of_each_channel(told: &BTreeMap<String, f64>) -> BTreeMap<&str, f64> {
    let mut first = BTreeMap::new();
    for (receiver, &seconds) in told {
        let channel = receiver.split('/').next().unwrap_or_default();
        let least = first.entry(channel).or_insert(seconds);
        *least = seconds.min(*least);
    }
    first
}

fn remark(outcome: &Outcome) -> String {
    match outcome.missing.is_empty() {
        true => outcome.note.clone().unwrap_or_default(),
        false => outcome.missing.join("; "),
    }
}

/// An exercise in a line.
pub(super) fn summary(seen: &[Outcome]) -> String {
    let each = seen.iter().map(|outcome| match outcome.ok {
        true => format!("{} {}", style("seen").green(), name(outcome)),
        false => format!(
            "{} {}: {}",
            style("not seen").red().bold(),
            name(outcome),
            outcome.missing.join("; ")
        ),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// What provokes which alert.
pub(super) fn list(drills: &[&Drill], json: bool) {
    if json {
        let rows: Vec<_> = drills
            .iter()
            .map(|drill| {
                let (reason, exercise) = match drill.how {
                    How::NotHere(reason) => (Some(reason), None),
                    _ => (None, drill.exercise()),
                };
                json!({
                    "alert": drill.alert,
                    "severity": drill.severity,
                    "exercise": exercise.map(|it| it.name),
                    "what": exercise.map(|it| it.what),
                    "reason": reason,
                })
            })
            .collect();
        println!("{:#}", json!({ "drills": rows }));
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["ALERT", "WHAT HAPPENS"]);
    for drill in drills {
        let what = match drill.how {
            How::NotHere(reason) => format!("not here: {reason}"),
            _ => drill
                .exercise()
                .map_or_else(String::new, |it| it.what.to_owned()),
        };
        table.add_row([drill.name(), what]);
    }
    println!("{table}");
}
