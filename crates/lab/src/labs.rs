//! `lab labs` and `lab check`: the workshop. What a learner does stands in `labs/`; here is what grades it, on the stack that runs.

mod alerting;
mod answers;
mod dashboard;
mod elk;
mod exporter;
mod grader;
mod oncall;
mod prometheus;
mod promql;
mod slo;
mod three_pillars;
mod tracing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Subcommand;
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use stack::{Installer, Layout, Ports, table};
use terminal::style;

use self::grader::{Graded, Grader};
use crate::{
    place::{Place, Usage},
    verify::Looked,
    view,
};

/// Where all of them lie in a clone.
const DIRECTORY: &str = "labs";
/// What every lab's folder holds: what the learner reads, and what the work begins with.
const TEXT: &str = "README.md";
const START: &str = "start";
/// Where the learner works, in the lab's folder.
const WORK: &str = "work";

/// A lab of the workshop.
struct Lab {
    n: u8,
    /// Its folder.
    name: &'static str,
    /// Components whose programs the learner starts: they are linked into the folder of the work.
    programs: &'static [&'static str],
}

const LABS: &[Lab] = &[
    lab(1, "01-three-pillars", &[]),
    lab(2, "02-prometheus", &["prometheus"]),
    lab(3, "03-dashboards", &[]),
    lab(4, "04-elk", &[]),
    lab(5, "05-tracing", &[]),
    lab(6, "06-alerting", &["prometheus"]),
    lab(7, "07-promql", &[]),
    lab(8, "08-exporter", &["prometheus"]),
    lab(9, "09-slo", &[]),
    lab(10, "10-oncall", &[]),
];

const fn lab(n: u8, name: &'static str, programs: &'static [&'static str]) -> Lab {
    Lab { n, name, programs }
}

/// One function each.
async fn grade(n: u8, it: &Grader<'_>) -> Vec<Graded> {
    match n {
        1 => three_pillars::grade(it).await,
        2 => prometheus::grade(it).await,
        3 => dashboard::grade(it).await,
        4 => elk::grade(it).await,
        5 => tracing::grade(it).await,
        6 => alerting::grade(it).await,
        7 => promql::grade(it).await,
        8 => exporter::grade(it).await,
        9 => slo::grade(it).await,
        10 => oncall::grade(it).await,
        _ => unreachable!("every lab of the table has its check"),
    }
}

/// Lists the labs of the workshop, or prepares one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab labs                      what there is to learn, and how far you are
  lab labs start 1              a folder to work in: labs/01-three-pillars/work
  lab check 1                   is it done?

Each is described by the README.md in its folder; the console shows the same under /labs.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lay out the files that a lab begins with; what is there already stays as it is
    Start(Start),
}

#[derive(Debug, clap::Args)]
struct Start {
    #[command(flatten)]
    chosen: Chosen,
}

/// A lab, and where it is worked on.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// The lab's number
    #[arg(value_name = "N")]
    n: u8,
    /// Where you work on it [default: the folder `work` beside its README.md]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// Grades a lab of the workshop on what Prometheus, Alertmanager, Elasticsearch and Jaeger themselves say.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lab check 1
  lab check 7 --json | jq '.steps[] | select(.ok | not)'
  lab check 2 --endpoints cluster.yaml      on a stack that this lab did not start, as in `lab verify`

Exit code: 0 when every step is done, 1 when one is not.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    looked: Looked,
}

/// What `lab check` found, in the form that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    lab: u8,
    name: &'static str,
    title: String,
    ok: bool,
    steps: Vec<Step>,
}

/// Something to do.
#[derive(Debug, Serialize)]
struct Step {
    n: usize,
    name: String,
    ok: bool,
    /// What was seen.
    evidence: Vec<String>,
    /// What to do when it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl Lab {
    fn find(n: u8) -> Result<&'static Self, Usage> {
        LABS.iter().find(|lab| lab.n == n).ok_or_else(|| {
            let there: Vec<_> = LABS.iter().map(|lab| lab.n.to_string()).collect();
            Usage(format!(
                "there is no lab {n}, but {}; `lab labs` says what they teach",
                there.join(", ")
            ))
        })
    }

    fn folder(&self, layout: &Layout) -> PathBuf {
        layout.config(DIRECTORY).join(self.name)
    }

    /// What the learner reads.
    fn text(&self, layout: &Layout) -> Result<String, Usage> {
        crate::committed::read(&self.folder(layout).join(TEXT))
    }

    /// The heading of that.
    fn title<'a>(&self, text: &'a str) -> Result<&'a str, Usage> {
        let heading = text.lines().find_map(|line| line.strip_prefix("# "));
        heading.ok_or_else(|| Usage(format!("{TEXT} of {} has no heading", self.name)))
    }
}

/// The ports of the lab that runs, or would run.
fn ports(place: &Place, layout: &Layout) -> anyhow::Result<Ports> {
    match stack::Lab::look(layout) {
        stack::Lab::Running(board) => {
            let all: Vec<_> = table::COMPONENTS.iter().collect();
            Ok(Ports::new(board.port_offset, &all)?)
        }
        _ => place.ports(),
    }
}

impl Chosen {
    fn lab(&self) -> Result<&'static Lab, Usage> {
        Lab::find(self.n)
    }

    fn work(&self, layout: &Layout) -> Result<PathBuf, Usage> {
        match &self.work {
            Some(work) => Ok(work.clone()),
            None => Ok(self.lab()?.folder(layout).join(WORK)),
        }
    }
}

pub(crate) fn labs(place: &Place, args: &Args) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    match &args.command {
        None => list(place, &layout, args.json),
        Some(Command::Start(args)) => start(place, &layout, &args.chosen),
    }
}

fn list(place: &Place, layout: &Layout, json: bool) -> anyhow::Result<ExitCode> {
    let ports = ports(place, layout)?;
    let mut rows = Vec::new();
    for lab in LABS {
        let last = std::fs::read(layout.checked_file(lab.n)).ok();
        let last: Option<Value> = last.and_then(|text| serde_json::from_slice(&text).ok());
        let text = lab.text(layout)?;
        rows.push((lab, lab.title(&text)?.to_owned(), text, last));
    }
    if json {
        let labs: Vec<_> = rows
            .iter()
            .map(|(lab, title, text, last)| {
                json!({
                    "lab": lab.n,
                    "name": lab.name,
                    "title": title,
                    "folder": lab.folder(layout),
                    "text": with_ports(text, ports),
                    "last_check": last,
                })
            })
            .collect();
        println!("{:#}", json!({ "labs": labs }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["N", "WHAT YOU LEARN", "LAST CHECK", "FOLDER"]);
    for (lab, title, _, last) in rows {
        let folder = format!("{DIRECTORY}/{}", lab.name);
        let last = last.map_or_else(|| "not yet".into(), |last| in_words(&last));
        table.add_row([lab.n.to_string(), title, last, folder]);
    }
    println!("{table}\n\n`lab labs start N` lays out its files, `lab check N` grades it");
    Ok(ExitCode::SUCCESS)
}

/// A check that was written down: how far it was, and when.
fn in_words(last: &Value) -> String {
    let steps = last["report"]["steps"].as_array();
    let steps = steps.map_or(&[][..], Vec::as_slice);
    let done = steps.iter().filter(|step| step["ok"] == true).count();
    let at = last["at"].as_str().and_then(|at| at.parse().ok());
    let at = at.map_or_else(String::new, |at: Timestamp| {
        format!(", {}", at.strftime("%F %R UTC"))
    });
    match last["report"]["ok"] == true {
        true => format!("done{at}"),
        false => format!("{done} of {} steps{at}", steps.len()),
    }
}

fn start(place: &Place, layout: &Layout, chosen: &Chosen) -> anyhow::Result<ExitCode> {
    let lab = chosen.lab()?;
    let work = chosen.work(layout)?;
    let ports = ports(place, layout)?;
    std::fs::create_dir_all(&work)
        .with_context(|| format!("cannot make the directory {}", work.display()))?;
    let begin = lab.folder(layout).join(START);
    let entries = std::fs::read_dir(&begin)
        .with_context(|| format!("cannot read the directory {}", begin.display()))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    for file in files {
        let name = file.file_name().context("a file has a name")?;
        let to = work.join(name);
        let text = crate::committed::read(&file)?;
        lay(&to, |to| std::fs::write(to, with_ports(&text, ports)))?;
    }
    for component in lab.programs {
        let installed = Installer::new(layout.clone()).find(table::find(component)?)?;
        let program = installed
            .ok_or(stack::Error::NotInstalled { component })?
            .program;
        // Prometheus comes with the tool that tries its files out.
        let tool = program.with_file_name("promtool");
        for program in [program, tool].into_iter().filter(|it| it.is_file()) {
            let to = work.join(program.file_name().context("a program has a name")?);
            lay(&to, |to| std::os::unix::fs::symlink(&program, to))?;
        }
    }
    println!(
        "\nwork in {}, by what {} says; then: lab check {}",
        work.display(),
        lab.folder(layout).join(TEXT).display(),
        lab.n
    );
    Ok(ExitCode::SUCCESS)
}

/// Makes what is not there, and says what became of it.
fn lay(to: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let there = to.symlink_metadata().is_ok();
    if !there {
        make(to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let what = if there { "kept" } else { "made" };
    println!("{what}  {}", to.display());
    Ok(())
}

/// A file that names the usual ports, for a lab that has others.
fn with_ports(text: &str, ports: Ports) -> String {
    let named = table::COMPONENTS.iter().flat_map(|component| {
        component
            .ports
            .iter()
            .map(move |port| (port.default, ports.port(component, port.name)))
    });
    let moved: BTreeMap<String, String> = named
        .map(|(usual, port)| (usual.to_string(), port.to_string()))
        .collect();
    // An address is a host's name, a colon and digits that nothing follows: only those are ports.
    let mut parts = text.split("127.0.0.1:");
    let mut moved_text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part
            .find(|it: char| !it.is_ascii_digit())
            .unwrap_or(part.len());
        let (port, rest) = part.split_at(digits);
        moved_text.push_str("127.0.0.1:");
        moved_text.push_str(moved.get(port).map_or(port, String::as_str));
        moved_text.push_str(rest);
    }
    moved_text
}

pub(crate) fn check(place: &Place, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let layout = place.layout()?;
    let lab = args.chosen.lab()?;
    let work = args.chosen.work(&layout)?;
    let endpoints = args.looked.endpoints(place, &layout)?;
    let title = lab.title(&lab.text(&layout)?)?.to_owned();
    let grader = Grader::new(&endpoints, &layout, lab.folder(&layout), work)?;
    let spinner = view::spinner(format!("looking at what became of lab {}", lab.n));
    let steps = crate::block_on(grade(lab.n, &grader))?;
    spinner.finish_and_clear();
    let steps: Vec<_> = steps
        .into_iter()
        .enumerate()
        .map(|(before, graded)| Step::new(before + 1, graded))
        .collect();
    let report = Report {
        lab: lab.n,
        name: lab.name,
        title,
        ok: steps.iter().all(|step| step.ok),
        steps,
    };
    if args.looked.is_here() {
        // `lab labs` and the console show it, with when that was.
        let json = json!({ "at": Timestamp::now(), "report": &report });
        stack::write_atomically(&layout.checked_file(lab.n), json.to_string().as_bytes())?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Step {
    fn new(n: usize, graded: Graded) -> Self {
        let Graded { name, hint, seen } = graded;
        match seen {
            Ok(evidence) => Self {
                n,
                name,
                ok: true,
                evidence,
                hint: None,
            },
            Err(reason) => Self {
                n,
                name,
                ok: false,
                evidence: vec![format!("{reason:#}")],
                hint: Some(hint),
            },
        }
    }
}

fn print(report: &Report) {
    println!("{}\n", style(&report.title).bold());
    for step in &report.steps {
        let mark = if step.ok {
            style("done").green()
        } else {
            style("OPEN").yellow().bold()
        };
        println!("{mark}  {}. {}", step.n, style(&step.name).bold());
        for line in &step.evidence {
            println!("        {line}");
        }
        if let Some(hint) = step.hint {
            println!("        {} {hint}", style("->").yellow());
        }
    }
    let done = report.steps.iter().filter(|step| step.ok).count();
    println!("\n{done} of {} steps are done", report.steps.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_the_ports_of_their_lab() {
        let all: Vec<_> = table::COMPONENTS.iter().collect();
        let ports = Ports::new(1000, &all).unwrap();
        let text = "targets: [127.0.0.1:5100, 127.0.0.1:51000]\n# 127.0.0.1:9090/graph, 9090, 127.0.0.1:9091";
        assert_eq!(
            with_ports(text, ports),
            "targets: [127.0.0.1:6100, 127.0.0.1:51000]\n# 127.0.0.1:10090/graph, 9090, 127.0.0.1:9091"
        );
    }

    #[test]
    fn numbers_are_those_of_the_folders() {
        for lab in LABS {
            assert_eq!(lab.name.split_once('-').unwrap().0, format!("{:02}", lab.n));
        }
        assert!(Lab::find(11).is_err() && Lab::find(0).is_err());
        // The console draws what the learner makes there.
        let work = format!("{DIRECTORY}/{}/{WORK}", Lab::find(3).unwrap().name);
        assert_eq!(::console::OF_LEARNER, work);
    }
}
