//! What an exercise does to a lab. How it is undone is written down before it is done.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use reqwest::Method;
use serde_json::{Value, json};
use stack::{Board, Group, Guise, HOST, Layout};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command, task::JoinHandle};

use super::journal::{Journal, Owner, Undo, aside};
use crate::{
    chaos,
    place::{Place, Usage},
};

/// One thing that is done to a lab.
#[derive(Debug)]
pub(super) enum Act {
    /// A fault of `lab chaos` in some replicas.
    Fault {
        replicas: &'static [&'static str],
        fault: &'static str,
        parameters: &'static [(&'static str, &'static str)],
    },
    /// Components stand still: they live and do not answer.
    Pause(&'static [&'static str]),
    /// Seconds until the next act.
    Wait(u64),
    /// Service discovery forgets every target of a job.
    NoTargets(&'static str),
    /// Service discovery names one more target of a job, where nobody listens.
    AbsentTarget(&'static str),
    /// A second instance of one of our programs.
    Beside(Beside),
    /// The API gets another certificate.
    Certificate { days: i32 },
    /// A line that Elasticsearch refuses for good.
    RefusedLine,
    /// An index whose shard no node may have.
    HomelessIndex,
    /// Another limit of Elasticsearch's parent circuit breaker.
    BreakerLimit(&'static str),
    /// A component is asked to reload a broken configuration.
    BreakConfig(&'static str),
    /// Prometheus gets more groups of rules.
    MoreRules(&'static str),
    /// A block without an index.
    DamagedBlock,
    /// A target whose samples come with times that jump back.
    StampedPage,
    /// A bad day for a channel of the inbox.
    BreakChannel(&'static str),
    /// Takes what CPU time nobody else wants.
    Burn,
}

/// A second instance, which Prometheus scrapes for as long as it lives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside {
    /// `payments` that starts again and again.
    Restarting,
    /// `payments` that may hardly open a file more.
    FewDescriptors,
    /// `payments` that logs to somebody who does not read.
    UnreadOutput,
    /// The exporter without its database.
    ExporterWithoutDatabase,
    /// The exporter with a database that has no tables.
    ExporterWithoutTables,
    /// A load generator that is slower than it should be.
    BusyGenerator,
    /// A load generator that sends much more.
    Customers,
}

/// The configuration that a broken one takes the place of, and which reads it.
const CONFIGS: [(&str, &str); 2] = [
    ("prometheus", "prometheus.yml"),
    ("alertmanager", "alertmanager.yml"),
];
const BROKEN: &str = "this: is no configuration\n";

/// Rules that the drill itself does not change.
const RECORDINGS: &str = "recording-rules.yml";
const INDEX: &str = "lab-drill";
/// A directory name as Prometheus gives its blocks.
const BLOCK: &str = "01DR1TT0000000000000000000";
const RESTART_EVERY: Duration = Duration::from_secs(8);
const STARTS_WITHIN: Duration = Duration::from_secs(30);

impl Act {
    /// The components that it is done to.
    #[cfg(test)]
    pub(super) fn components(&self) -> Vec<&'static str> {
        match self {
            Self::Fault { replicas, .. } | Self::Pause(replicas) => replicas.to_vec(),
            Self::BreakConfig(component) => vec![component],
            _ => Vec::new(),
        }
    }
}

/// A lab that is broken and mended.
pub(super) struct Scene {
    pub(super) board: Board,
    layout: Layout,
    admin: console::chaos::Admin,
    http: reqwest::Client,
    pub(super) journal: Journal,
}

/// A scene while one exercise acts; its processes end when it is dropped.
pub(super) struct Stage<'a> {
    scene: &'a Scene,
    owner: Owner,
    groups: Vec<Group>,
    tasks: Vec<Task>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Scene {
    pub(super) fn new(place: &Place) -> anyhow::Result<Self> {
        let board = place.running()?;
        let layout = place.layout()?;
        Ok(Self {
            admin: chaos::admin(place, &board)?,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(10))
                .build()
                .context("cannot make an HTTP client")?,
            journal: Journal::open(&layout)?,
            board,
            layout,
        })
    }

    /// The address of a component's port.
    pub(super) fn url(&self, component: &str, port: &str) -> anyhow::Result<String> {
        let port = self
            .board
            .get(component)
            .filter(|status| status.pid.is_some())
            .and_then(|status| status.ports.get(port))
            .ok_or_else(|| {
                Usage(format!(
                    "{component} does not run in this lab; `lab status` tells why"
                ))
            })?;
        Ok(format!("http://{HOST}:{port}"))
    }

    fn run_file(&self, component: &str, file: &str) -> PathBuf {
        self.layout.run_dir(component).join(file)
    }

    /// A configuration file as a component has it now.
    pub(super) fn config_text(&self, component: &str, file: &str) -> anyhow::Result<String> {
        let path = self.run_file(component, file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// A file of the project.
    pub(super) fn project_text(&self, file: &str) -> anyhow::Result<String> {
        let path = self.layout.config(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    pub(super) fn objectives(&self, clock: u32) -> anyhow::Result<String> {
        crate::slo::rules(&self.layout, clock)
    }

    /// Asks Prometheus or Alertmanager to read its configuration again.
    pub(super) async fn reload(&self, component: &str) -> anyhow::Result<()> {
        let url = self.url(component, "http")? + "/-/reload";
        let answer = self.http.post(&url).send().await?;
        if !answer.status().is_success() {
            bail!(
                "{component} does not take its configuration: {}",
                answer.text().await?
            );
        }
        Ok(())
    }

    /// Undoes everything that is written down.
    pub(super) async fn mend(&self) -> anyhow::Result<()> {
        self.journal.undo(None, self).await
    }

    /// A stage on it.
    pub(super) fn stage(&self, owner: Owner) -> Stage<'_> {
        Stage {
            scene: self,
            owner,
            groups: Vec::new(),
            tasks: Vec::new(),
        }
    }

    pub(super) async fn undo(&self, undo: &Undo) -> anyhow::Result<()> {
        match undo {
            Undo::StopFault { component, fault } => {
                let path = format!("/chaos/{fault}");
                self.admin
                    .ask(component, Method::DELETE, &path, None)
                    .await?;
            }
            Undo::Continue(component) => self.signal(component, Signal::SIGCONT)?,
            Undo::PutBack { file, aside } => match std::fs::rename(aside, file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("cannot put {} back", file.display()));
                }
                _ => {}
            },
            Undo::Remove(path) => {
                let removed = match path.is_dir() {
                    true => std::fs::remove_dir_all(path),
                    false => std::fs::remove_file(path),
                };
                match removed {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(error)
                            .with_context(|| format!("cannot remove {}", path.display()));
                    }
                    _ => {}
                }
            }
            Undo::Reload(url) => {
                let answer = self.http.post(format!("{url}/-/reload")).send().await?;
                if !answer.status().is_success() {
                    bail!(
                        "{url} does not take its configuration: {}",
                        answer.text().await?
                    );
                }
            }
            Undo::Request { url, method, body } => {
                let method = Method::from_bytes(method.as_bytes())?;
                let mut request = self.http.request(method, url);
                if let Some(body) = body {
                    request = request.json(body);
                }
                let answer = request.send().await?;
                if !answer.status().is_success() && answer.status() != 404 {
                    bail!("{url} answers {}", answer.status());
                }
            }
        }
        Ok(())
    }

    fn group(&self, component: &str) -> anyhow::Result<Pid> {
        let status = self.board.get(component);
        let pid = status.and_then(|status| status.pid).ok_or_else(|| {
            Usage(format!(
                "{component} does not run in this lab; `lab status` tells why"
            ))
        })?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    fn signal(&self, component: &str, signal: Signal) -> anyhow::Result<()> {
        killpg(self.group(component)?, signal).with_context(|| format!("cannot signal {component}"))
    }
}

impl Stage<'_> {
    fn note(&self, undo: Undo) -> anyhow::Result<()> {
        self.scene.journal.note(self.owner, undo)
    }

    /// Undoes what was done on it, and ends its processes.
    pub(super) async fn clear(self) -> anyhow::Result<()> {
        let Self {
            scene,
            owner,
            groups,
            tasks,
        } = self;
        let undone = scene.journal.undo(Some(owner), scene).await;
        drop((groups, tasks));
        undone
    }

    fn targets_file(&self, job: &str) -> PathBuf {
        self.scene
            .run_file("prometheus", &format!("targets/{job}.json"))
    }

    /// Lays a file aside.
    fn lay_aside(&self, file: &Path) -> anyhow::Result<()> {
        let aside = aside(file);
        self.note(Undo::PutBack {
            file: file.into(),
            aside: aside.clone(),
        })?;
        std::fs::rename(file, &aside).with_context(|| format!("cannot replace {}", file.display()))
    }

    /// Replaces a file.
    fn replace(&self, file: &Path, text: &str) -> anyhow::Result<()> {
        let partial = file.with_extension("partial");
        std::fs::write(&partial, text)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        self.lay_aside(file)?;
        std::fs::rename(&partial, file)
            .with_context(|| format!("cannot replace {}", file.display()))
    }

    /// Replaces a configuration file of Prometheus or Alertmanager; it is read at the next reload.
    pub(super) fn replace_config(
        &self,
        component: &str,
        file: &str,
        text: &str,
    ) -> anyhow::Result<()> {
        self.note(Undo::Reload(self.scene.url(component, "http")?))?;
        self.replace(&self.scene.run_file(component, file), text)
    }

    /// Does it. A fault lasts `seconds` at most, even if nobody lives to end it.
    pub(super) async fn act(&mut self, act: &Act, seconds: u64) -> anyhow::Result<()> {
        match act {
            Act::Fault {
                replicas,
                fault,
                parameters,
            } => {
                for replica in *replicas {
                    self.note(Undo::StopFault {
                        component: (*replica).into(),
                        fault: (*fault).into(),
                    })?;
                    let mut body: serde_json::Map<String, Value> = parameters
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                        .collect();
                    body.insert("for".into(), format!("{}s", seconds.min(3600)).into());
                    let path = format!("/chaos/{fault}");
                    self.scene
                        .admin
                        .ask(replica, Method::POST, &path, Some(body.into()))
                        .await?;
                }
            }
            Act::Pause(components) => {
                for component in *components {
                    self.scene.group(component)?;
                    self.note(Undo::Continue((*component).into()))?;
                    self.scene.signal(component, Signal::SIGSTOP)?;
                }
            }
            Act::Wait(seconds) => tokio::time::sleep(Duration::from_secs(*seconds)).await,
            Act::NoTargets(job) => self.replace(&self.targets_file(job), "[]")?,
            Act::AbsentTarget(job) => {
                let port = free_port()?;
                self.add_target(job, job, port)?;
            }
            Act::Beside(beside) => self.start_beside(*beside).await?,
            Act::Certificate { days } => {
                let dir = self.scene.layout.certificates();
                self.note(Undo::Remove(dir.join("drill")))?;
                let made = stack::make_certificate(&dir.join("drill"), *days)?;
                for (made, file) in made.iter().zip(["server.crt", "server.key"]) {
                    let file = dir.join(file);
                    self.lay_aside(&file)?;
                    std::fs::rename(made, &file)
                        .with_context(|| format!("cannot replace {}", file.display()))?;
                }
            }
            Act::RefusedLine => {
                let now = jiff::Timestamp::now();
                let file = self.scene.layout.app_logs().join("drill.log");
                self.note(Undo::Remove(file.clone()))?;
                // Our template takes any value for a field, and the shipper keeps other lines as dead letters; so the index
                // has to demand something of a field that only this drill writes.
                let url = format!(
                    "{}/flask-logs-*/_mapping",
                    self.scene.url("elasticsearch", "http")?
                );
                let demand = json!({"properties": {"labels.drill": {"type": "ip", "ignore_malformed": false}}});
                // In a lab that has just begun there is no index yet.
                let started = Instant::now();
                while let Err(error) = self.put(&url, &demand).await {
                    if started.elapsed() > STARTS_WITHIN {
                        return Err(error);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                let line =
                    json!({"@timestamp": now, "message": "a drill", "labels.drill": "no address"});
                std::fs::write(&file, format!("{line}\n"))
                    .with_context(|| format!("cannot write {}", file.display()))?;
            }
            Act::HomelessIndex => {
                let url = format!("{}/{INDEX}", self.scene.url("elasticsearch", "http")?);
                self.note(Undo::Request {
                    url: url.clone(),
                    method: "DELETE".into(),
                    body: None,
                })?;
                let settings = json!({"settings": {
                    "number_of_replicas": 0,
                    "index.routing.allocation.require._name": "nowhere",
                }});
                self.put(
                    &format!("{url}?wait_for_active_shards=0&timeout=1s"),
                    &settings,
                )
                .await?;
            }
            Act::BreakerLimit(limit) => {
                let url = format!(
                    "{}/_cluster/settings",
                    self.scene.url("elasticsearch", "http")?
                );
                let set =
                    |limit: Value| json!({"persistent": {"indices.breaker.total.limit": limit}});
                self.note(Undo::Request {
                    url: url.clone(),
                    method: "PUT".into(),
                    body: Some(set(Value::Null)),
                })?;
                self.put(&url, &set((*limit).into())).await?;
            }
            Act::BreakConfig(component) => {
                let (_, file) = CONFIGS
                    .iter()
                    .find(|(name, _)| name == component)
                    .context("a component without a configuration")?;
                self.replace_config(component, file, BROKEN)?;
                if self.scene.reload(component).await.is_ok() {
                    bail!("{component} takes a broken configuration");
                }
            }
            Act::MoreRules(groups) => {
                let rules = self.scene.config_text("prometheus", RECORDINGS)?;
                self.replace_config("prometheus", RECORDINGS, &format!("{rules}{groups}"))?;
                self.scene.reload("prometheus").await?;
            }
            Act::DamagedBlock => {
                let dir = self.scene.layout.state_dir("prometheus").join(BLOCK);
                self.note(Undo::Remove(dir.clone()))?;
                let now = jiff::Timestamp::now().as_millisecond();
                let meta = json!({
                    "ulid": BLOCK, "minTime": now - 7_200_000, "maxTime": now - 7_100_000, "stats": {},
                    "compaction": {"level": 1, "sources": [BLOCK]}, "version": 1,
                });
                std::fs::create_dir_all(&dir)
                    .and_then(|()| std::fs::write(dir.join("meta.json"), meta.to_string()))
                    .with_context(|| format!("cannot write {}", dir.display()))?;
            }
            Act::StampedPage => {
                let listener = TcpListener::bind((HOST, 0)).await?;
                let port = listener.local_addr()?.port();
                self.tasks.push(Task(tokio::spawn(serve_stamped(listener))));
                self.add_target("node", "drill", port)?;
            }
            Act::BreakChannel(channel) => {
                let url = format!("{}/inbox/api/behaviour", self.scene.url("console", "http")?);
                let set = |trouble: Value| json!({"channel": channel, "trouble": trouble, "for_seconds": seconds.min(3600)});
                self.note(Undo::Request {
                    url: url.clone(),
                    method: "PUT".into(),
                    body: Some(set(Value::Null)),
                })?;
                self.put(&url, &set("broken".into())).await?;
            }
            Act::Burn => {
                let threads = std::thread::available_parallelism()?.get();
                for _ in 0..threads {
                    let mut command = Command::new("nice");
                    command.args(["-n", "19", "sh", "-c", "while :; do :; done"]);
                    self.groups.push(Group::spawn(&mut command, &Guise::PLAIN)?);
                }
            }
        }
        Ok(())
    }

    async fn put(&self, url: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.scene.http.put(url).json(body).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{url} answers {status}: {}", answer.text().await?);
        }
        Ok(())
    }

    /// Adds a target to those of a job.
    fn add_target(&self, job: &str, service: &str, port: u16) -> anyhow::Result<()> {
        let file = self.targets_file(job);
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut targets: Vec<Value> = serde_json::from_str(&text)?;
        targets.push(json!({
            "targets": [format!("{HOST}:{port}")],
            "labels": {"service": service},
        }));
        self.replace(&file, &serde_json::to_string_pretty(&targets)?)
    }

    async fn start_beside(&mut self, beside: Beside) -> anyhow::Result<()> {
        let dir = self
            .scene
            .layout
            .run_dir("drill")
            .join(uuid::Uuid::new_v4().simple().to_string());
        self.note(Undo::Remove(dir.clone()))?;
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let (listen, admin) = (free_port()?, free_port()?);
        let address = |port: u16| format!("{HOST}:{port}");
        let payments = || {
            let mut command = component("payments")?;
            command.args(["--listen", &address(listen)]);
            command.args(["--admin-listen", &address(admin)]);
            command
                .arg("--chaos-token-file")
                .arg(self.scene.layout.chaos_token_file());
            anyhow::Ok(command)
        };
        let exporter = |database: &Path| {
            let mut command = component("custom-flask-exporter")?;
            command.args(["--listen", &address(listen)]);
            command
                .arg("--database-url")
                .arg(format!("sqlite://{}", database.display()));
            anyhow::Ok(command)
        };
        let loadgen = |options: &[&str]| {
            let mut command = component("loadgen")?;
            command.arg("run");
            for replica in ["flask-api-1", "flask-api-2"] {
                command.arg(self.scene.url(replica, "http")? + "/api/products");
            }
            command.args(["--metrics-listen", &address(listen)]);
            command.args(options);
            anyhow::Ok(command)
        };
        let start = |mut command: Command| Group::spawn(&mut command, &Guise::PLAIN);
        let (job, port) = match beside {
            Beside::Restarting => {
                let mut group = start(payments()?)?;
                let mut again = payments()?;
                self.tasks.push(Task(tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(RESTART_EVERY).await;
                        group.stop(Duration::from_secs(2)).await;
                        match Group::spawn(&mut again, &Guise::PLAIN) {
                            Ok(next) => group = next,
                            Err(_) => return,
                        }
                    }
                })));
                ("payments", admin)
            }
            Beside::FewDescriptors => {
                self.groups.push(start(payments()?)?);
                ("payments", admin)
            }
            Beside::UnreadOutput => {
                let mut command = payments()?;
                // Kept by the group, and never read.
                command.stdout(Stdio::piped());
                self.groups.push(start(command)?);
                ("payments", admin)
            }
            Beside::ExporterWithoutDatabase => {
                let database = dir.join("missing.db");
                self.groups.push(start(exporter(&database)?)?);
                ("custom-flask-exporter", listen)
            }
            Beside::ExporterWithoutTables => {
                let database = dir.join("empty.db");
                std::fs::write(&database, "")?;
                self.groups.push(start(exporter(&database)?)?);
                ("custom-flask-exporter", listen)
            }
            Beside::BusyGenerator => {
                let command = loadgen(&["--rate", "200", "--max-in-flight", "1"])?;
                self.groups.push(start(command)?);
                ("loadgen", listen)
            }
            Beside::Customers => {
                self.groups.push(start(loadgen(&["--rate", "60"])?)?);
                ("loadgen", listen)
            }
        };
        self.wait_for(&format!("http://{HOST}:{port}/metrics"))
            .await?;
        match beside {
            Beside::FewDescriptors => few_descriptors(self.groups.last())?,
            Beside::UnreadOutput => {
                let fault = json!({"rate": "20000", "for": "1h"});
                self.scene
                    .admin
                    .ask_at(
                        "payments",
                        &format!("http://{HOST}:{port}"),
                        Method::POST,
                        "/chaos/log-flood",
                        Some(fault),
                    )
                    .await?;
            }
            _ => {}
        }
        self.add_target(job, job, port)
    }

    async fn wait_for(&self, url: &str) -> anyhow::Result<()> {
        let answers = async {
            while self.scene.http.get(url).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(STARTS_WITHIN, answers)
            .await
            .with_context(|| format!("{url} does not answer"))
    }
}

/// One of our own programs, carried by this binary.
fn component(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command
        .args(["component", name])
        .env("OTEL_TRACES_EXPORTER", "none")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind((HOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// Lowers the limit of open files to little more than what is open.
fn few_descriptors(group: Option<&Group>) -> anyhow::Result<()> {
    let pid = group.context("nothing was started")?.id();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .context("cannot count open files")?
        .count();
    let limit = open * 100 / 85;
    let status = std::process::Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}:"))
        .status()
        .context("cannot run prlimit; it is part of util-linux")?;
    match status.success() {
        true => Ok(()),
        false => bail!("prlimit does not lower the limit of open files"),
    }
}

/// Answers each scrape with a sample that is older than the one before.
async fn serve_stamped(listener: TcpListener) {
    let mut back = false;
    while let Ok((mut stream, _)) = listener.accept().await {
        back = !back;
        let seconds = if back { 60 } else { 0 };
        let time = jiff::Timestamp::now().as_millisecond() - seconds * 1000;
        let page = format!("# TYPE drill_clock gauge\ndrill_clock {seconds} {time}\n");
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
        // The request is small, and what it says does not matter.
        let mut request = [0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await;
        let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
