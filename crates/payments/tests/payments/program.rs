//! A running `payments`, found by what it logs.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Far longer than anything here takes: only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "0123456789abcdef";

/// Killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_payments"));
    command
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(flags)
        .env("PAYMENTS_LATENCY", "0")
        .env("OTEL_TRACES_EXPORTER", "none")
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

impl Program {
    /// The same, with [`TOKEN`] to change it by.
    pub(crate) async fn start_with_token(flags: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let token = ["--chaos-token-file", file.path().to_str().unwrap()];
        // The file has been read once it serves.
        Self::start(&[&token, flags].concat()).await
    }

    pub(crate) async fn start(flags: &[&str]) -> Self {
        let mut child = command(flags).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address_of = async |message: &str| {
            let line = wait_for(&mut stdout, |line| line["message"] == message).await;
            let host = line["server.address"].as_str().unwrap();
            SocketAddr::new(
                host.parse().unwrap(),
                line["server.port"].as_u64().unwrap().try_into().unwrap(),
            )
        };
        let address = address_of("listening").await;
        let admin = address_of("admin listening").await;
        Self {
            child,
            stdout,
            address,
            admin,
        }
    }

    /// The next log line that satisfies `wanted`; lines before it are skipped.
    pub(crate) async fn log(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(&mut self.stdout, wanted).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/payments", self.address)
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    pub(crate) async fn pay(&self, body: Value) -> reqwest::Response {
        client().post(self.url()).json(&body).send().await.unwrap()
    }

    /// Changes its behaviour, with the token.
    pub(crate) async fn patch(&self, change: &Value) -> reqwest::Response {
        client()
            .patch(self.admin_url("/behaviour"))
            .bearer_auth(TOKEN)
            .json(change)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn behaviour(&self) -> Value {
        let request = client()
            .get(self.admin_url("/behaviour"))
            .bearer_auth(TOKEN);
        request.send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = client()
            .get(self.admin_url("/metrics"))
            .send()
            .await
            .unwrap();
        let text = text.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
            .parse()
            .unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("still running");
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end, reading its log so that it never waits for us.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let end = async {
            while self.stdout.next_line().await.unwrap().is_some() {}
            self.child.wait().await.unwrap()
        };
        timeout(PATIENCE, end).await.expect("the program ends")
    }
}

async fn wait_for(
    stdout: &mut Lines<BufReader<ChildStdout>>,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let search = async {
        loop {
            let line = stdout.next_line().await.unwrap().expect("the log goes on");
            let line: Value = serde_json::from_str(&line).expect("a JSON object a line");
            if wanted(&line) {
                return line;
            }
        }
    };
    timeout(PATIENCE, search)
        .await
        .expect("the line appears in the log")
}

/// A client of its own connections.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
