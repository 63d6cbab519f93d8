//! A lab of a test's own: its own data directory, its own ports, ended whatever the test does.

use std::{
    collections::HashSet,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;
use stack::{Installer, Layout, table::COMPONENTS};
use tempfile::TempDir;

/// Long enough for any machine; a test that waits it out has failed.
const WATCHDOG: Duration = Duration::from_secs(180);

pub struct TestLab {
    pub data: TempDir,
    pub offset: u16,
}

impl TestLab {
    /// A place for a lab; nothing runs yet.
    pub fn new() -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            offset: free_offset(),
        }
    }

    /// `lab` with this lab's place.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = lab(args);
        command
            .arg("--data-dir")
            .arg(self.data.path())
            .arg("--port-offset")
            .arg(self.offset.to_string());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts it in the background; ports that were free may have been taken since, then others do.
    pub fn up(&mut self, args: &[&str]) -> Output {
        loop {
            let output = self.run(&[&["up", "--detach"], args].concat());
            if !String::from_utf8_lossy(&output.stderr).contains("in use") {
                return output;
            }
            self.offset = free_offset();
        }
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?} printed no JSON ({error}): {}", text(&output)))
    }

    /// Process ids of everything that `lab status` knows, with the lab itself.
    pub fn processes(&self) -> Vec<u64> {
        let status = self.json(&["status", "--json"]);
        let components = status["components"].as_array().unwrap().iter();
        components
            .filter_map(|component| component["pid"].as_u64())
            .chain(status["lab_pid"].as_u64())
            .collect()
    }

    pub fn port(&self, component: &str, name: &str) -> u16 {
        let component = stack::table::find(component).unwrap();
        component
            .ports
            .iter()
            .find(|port| port.name == name)
            .unwrap()
            .default
            + self.offset
    }

    /// Waits until nothing of the lab is left: no process, no port, no lock.
    pub fn assert_gone(&self, processes: &[u64]) {
        eventually("every process has ended", || {
            processes.iter().all(|pid| !alive(*pid))
        });
        eventually("every port is free", || all_free(self.offset));
        let status = self.json(&["status", "--json"]);
        assert_eq!(status["running"], false);
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in std::fs::read_dir(self.data.path().join("logs"))
                .into_iter()
                .flatten()
                .flatten()
            {
                eprintln!("== {}\n{}", entry.path().display(), tail(&entry.path()));
            }
        }
        let _ = self.run(&["down"]);
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let start = text.lines().count().saturating_sub(15);
    text.lines().skip(start).collect::<Vec<_>>().join("\n")
}

pub fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command
        .args(args)
        .env_remove("LAB_DATA_DIR")
        .env_remove("LAB_PORT_OFFSET")
        .env_remove("LAB_PROJECT")
        // What a user's environment may hold for other programs must not change a lab.
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("OTEL_SERVICE_NAME", "mine")
        .env("LOADGEN_FOR", "1s");
    command
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    })
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < WATCHDOG, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ports(offset: u16) -> impl Iterator<Item = u16> {
    COMPONENTS
        .iter()
        .flat_map(|component| component.ports)
        .map(move |port| port.default + offset)
}

fn all_free(offset: u16) -> bool {
    ports(offset).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// An offset at which every port is free, below the range the system gives to clients, and not one
/// that a test of this run has had. Tests of other runs start elsewhere, by their process id.
fn free_offset() -> u16 {
    static GIVEN: std::sync::Mutex<Option<HashSet<u16>>> = std::sync::Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    let start = u16::try_from(std::process::id() % 600).unwrap();
    let offset = (0..600)
        .map(|step| 1000 + (start + step * 7) % 600 * 23)
        .find(|offset| !given.contains(offset) && all_free(*offset))
        .expect("600 offsets, and none has all its ports free");
    given.insert(offset);
    offset
}

/// A free port for a program that a test starts by itself, and not one that a test of this run has had: above every lab's
/// ports and below the range the system gives to clients, where a port that was free may be taken a moment later.
pub fn free_port() -> u16 {
    const FIRST: u16 = 31_500;
    const COUNT: u16 = 1200;
    static GIVEN: std::sync::Mutex<u16> = std::sync::Mutex::new(0);
    let mut given = GIVEN.lock().unwrap();
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    while *given < COUNT {
        let port = FIRST + (start + *given) % COUNT;
        *given += 1;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("{COUNT} ports, and none is left");
}

/// The program of a component, if it is installed.
pub fn program(component: &str) -> Option<PathBuf> {
    let data = tempfile::tempdir().unwrap();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .unwrap();
    let layout = Layout::new(project(), data.path(), &cache.join("three-pillars")).unwrap();
    let installed = Installer::new(layout)
        .find(stack::table::find(component).unwrap())
        .unwrap();
    Some(installed?.program)
}

/// promtool of the installed Prometheus.
pub fn promtool() -> PathBuf {
    program("prometheus").unwrap().with_file_name("promtool")
}

/// The project's root.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// Whether every component is installed; says what is missing, and fails in CI.
pub fn everything_is_installed() -> bool {
    let output = lab(&["doctor", "--json"]).output().unwrap();
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing: Vec<&str> = doctor["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| {
            finding["optional"] == false
                && ["obtainable", "missing"]
                    .iter()
                    .any(|state| finding["state"] == *state)
        })
        .filter_map(|finding| finding["name"].as_str())
        .collect();
    if missing.is_empty() {
        return true;
    }
    skip(&format!(
        "not installed: {}; get them with `lab install`",
        missing.join(", ")
    ));
    false
}

/// Says why a test is skipped; in CI that is a failure.
pub fn skip(text: &str) {
    assert!(std::env::var_os("CI").is_none(), "{text}");
    // Not a print macro: the harness would keep its output from those who should read it.
    writeln!(std::io::stderr(), "SKIPPED, {text}").unwrap();
}
