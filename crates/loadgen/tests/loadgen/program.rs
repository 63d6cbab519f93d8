//! The program itself, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use loadgen::summary::Summary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `loadgen run` with `args` and nothing from the environment of the tests.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .env_clear()
        .arg("run")
        .args(args)
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn output(args: &[&str]) -> Output {
    command(args).output().expect("the program runs")
}

/// Runs it to its good end and returns its result.
pub fn result(args: &[&str]) -> Summary {
    let output = output(&[args, &["--json", "-"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    summary(&output.stdout)
}

/// The result, with the sums that hold for every run.
pub fn summary(json: &[u8]) -> Summary {
    let summary: Summary = serde_json::from_slice(json).expect("the result is JSON");
    assert_eq!(
        summary.sent,
        summary.received + summary.failed + summary.timed_out,
        "{summary:?}"
    );
    assert_eq!(
        summary.planned,
        summary.sent + summary.dropped,
        "{summary:?}"
    );
    summary
}

/// A running `loadgen run ... --json -`.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        let mut child = command(&[args, &["--json", "-"]].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, stderr }
    }

    /// Reads standard error up to a line with `text` and returns the line.
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let length = self.stderr.read_line(&mut line).expect("text");
            assert_ne!(length, 0, "the program ended without saying {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The address behind "metrics on http://".
    pub fn metrics_address(&mut self) -> String {
        let line = self.line_with("metrics on http://");
        let (_, rest) = line.split_once("http://").expect("a URL");
        rest.trim().trim_end_matches("/metrics").to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("it is running");
    }

    /// Waits until it is gone, however it ended.
    pub fn gone(mut self) {
        self.child.wait().expect("it ends");
    }

    /// Waits for its good end and returns the result.
    pub fn result(mut self) -> Summary {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("text");
        let output = self.child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{rest}");
        summary(&output.stdout)
    }
}

/// GET, the plainest way.
pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

/// The value of a series in an exposition.
pub fn value(exposition: &str, series: &str) -> f64 {
    exposition
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {series} in\n{exposition}"))
        .parse()
        .expect("a number")
}
