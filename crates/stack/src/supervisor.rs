//! Starts the components, watches them, ends them.

use std::{
    convert::Infallible,
    ffi::OsStr,
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{process::Command, sync::watch, task::JoinSet};

use crate::{
    Board, Component, Error, Installed, Installer, Launching, Layout, Ports, Progress, Source,
    State, Status,
    layout::{make_dir, set_aside},
    process::{Group, Guise, Identity},
    retention::{Policy, Retention},
};

/// What a service of ours that logs to a file is told: the file, and how many bytes it may hold before the next is begun.
pub const OWN_LOG: [&str; 2] = ["LAB_OWN_LOG", "LAB_OWN_LOG_BYTES"];

/// How long a component may take to become ready once started. Elasticsearch on two busy cores
/// needs the most, about a third of it.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long a component may take to end before it is killed. Services drain for a few seconds.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at a health page.
const HEALTH_EVERY: Duration = Duration::from_millis(100);
/// Between two looks at a component that is ready. Three in vain, and it counts as failed until it
/// answers again.
const ANSWERS_EVERY: Duration = Duration::from_secs(5);
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
const MISSES_ALLOWED: u32 = 3;
/// Between two looks whether the data directory is still there.
const DATA_DIR_EVERY: Duration = Duration::from_secs(2);
/// Last log lines shown of a component that has failed.
const LAST_LINES: usize = 8;
/// They are looked for in this much of the log's end.
const LAST_BYTES: u64 = 64 * 1024;
/// A third-party component's log that has grown past this is set aside when its component starts again.
const LOG_ROTATE_BYTES: u64 = 64 * 1024 * 1024;

/// A lab: its lock, its components, and what is known of each.
#[derive(Debug)]
pub struct Supervisor {
    shared: Shared,
    /// Held for as long as the lab runs.
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    ports: Ports,
    components: Vec<&'static Component>,
    installer: Installer,
    /// In the place of the committed ones.
    slo_rules: Option<String>,
    /// How long logs are kept, as it was when the lab started.
    policy: Policy,
    board: watch::Sender<Board>,
    /// Components of this tier and above are to end; starts above every tier.
    stop_from: watch::Sender<u16>,
    http: reqwest::Client,
}

impl Supervisor {
    /// Takes the data directory and checks that every port is free, before anything is started.
    ///
    /// # Errors
    /// When another lab has the directory, it cannot be written, or ports are in use.
    pub fn open(
        layout: Layout,
        ports: Ports,
        components: Vec<&'static Component>,
    ) -> Result<Self, Error> {
        layout.prepare()?;
        let lock = lock(&layout)?;
        let started: Vec<_> = components
            .iter()
            .copied()
            .filter(|component| component.starts())
            .collect();
        let busy = ports.busy(&started);
        if !busy.is_empty() {
            return Err(Error::PortsBusy(busy));
        }
        let board = Board::new(&layout, ports, &components);
        board.save(&layout.state_file())?;
        let shared = Shared {
            installer: Installer::new(layout.clone()),
            policy: Policy::read(&layout)?,
            layout,
            ports,
            components,
            slo_rules: None,
            board: watch::Sender::new(board),
            stop_from: watch::Sender::new(u16::MAX),
            http: loopback_client(),
        };
        Ok(Self {
            shared,
            _lock: lock,
        })
    }

    /// Has Prometheus read these rules in the place of `prometheus/slo-rules.yml`.
    #[must_use]
    pub fn with_slo_rules(mut self, rules: String) -> Self {
        self.shared.slo_rules = Some(rules);
        self
    }

    /// Follows what every component is doing.
    pub fn board(&self) -> watch::Receiver<Board> {
        self.shared.board.subscribe()
    }

    /// Starts everything and keeps it until `stop` comes, then ends it in order. Once ending has
    /// begun, `force` kills what is left. Returns whether everything ended in order.
    ///
    /// Call it on the main thread of a current-thread runtime: components live as long as the thread
    /// that started them.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        force: impl Future<Output = ()>,
    ) -> bool {
        // Held to the end.
        let Self { shared, _lock } = self;
        let shared = Arc::new(shared);
        let writer = tokio::spawn(keep_state_file(
            shared.board.subscribe(),
            shared.layout.state_file(),
        ));
        let mut tasks = JoinSet::new();
        for &component in &shared.components {
            tasks.spawn(look_after(Arc::clone(&shared), component));
        }
        let retention = Retention {
            layout: &shared.layout,
            http: &shared.http,
            elasticsearch: shared.url_of_stored_logs(),
            policy: shared.policy.clone(),
        };
        tokio::select! {
            () = stop => {}
            () = data_dir_removed(&shared.layout) => {}
            never = retention.keep() => match never {},
        }
        let mut tiers: Vec<u8> = shared
            .components
            .iter()
            .map(|component| component.tier)
            .collect();
        tiers.sort_unstable_by(|a, b| b.cmp(a));
        tiers.dedup();
        let in_order = async {
            for tier in tiers {
                shared.stop_from.send_replace(tier.into());
                let members: Vec<_> = shared
                    .components
                    .iter()
                    .filter(|c| c.tier == tier)
                    .map(|c| c.name)
                    .collect();
                let all_ended = |board: &Board| {
                    members
                        .iter()
                        .filter_map(|name| board.get(name))
                        .all(|status| status.pid.is_none())
                };
                let _ = shared.board.subscribe().wait_for(all_ended).await;
            }
            while tasks.join_next().await.is_some() {}
        };
        let forced = tokio::select! {
            () = in_order => false,
            () = force => true,
        };
        if forced {
            // Dropping the tasks drops the process groups, which kills them.
            tasks.shutdown().await;
            for component in &shared.components {
                shared.update(component, |status| {
                    status.pid = None;
                    status.state = if status.state == State::Absent {
                        State::Absent
                    } else {
                        State::Stopped
                    };
                });
            }
        }
        writer.abort();
        let _ = shared.board.borrow().save(&shared.layout.state_file());
        !forced
    }
}

/// A client for addresses on this machine, whatever proxy the user's environment names.
fn loopback_client() -> reqwest::Client {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .build()
        .expect("a client without TLS needs nothing that can be missing")
}

/// Returns once the data directory is not there any more: nobody could find this lab again, to look
/// at it or to end it.
async fn data_dir_removed(layout: &Layout) {
    while layout.lock_file().exists() {
        tokio::time::sleep(DATA_DIR_EVERY).await;
    }
}

/// Takes the lock of the data directory.
fn lock(layout: &Layout) -> Result<File, Error> {
    let path = layout.lock_file();
    let fault = |source| Error::DataDir {
        path: layout.data().into(),
        source,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(fault)?;
    // Whoever asks whether a lab runs holds the lock for a moment.
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries < 10 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::AlreadyRunning {
                    data_dir: layout.data().into(),
                    pid: crate::board::lock_holder(&path),
                });
            }
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(fault)?;
    Ok(file)
}

/// Writes the board down whenever it has changed, several changes at once where they come quickly.
async fn keep_state_file(mut board: watch::Receiver<Board>, path: PathBuf) {
    while board.changed().await.is_ok() {
        let copy = board.borrow_and_update().clone();
        // A full disk must not end the lab; the next change tries again.
        let _ = copy.save(&path);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Why looking after a component has come to its end.
enum End {
    /// The lab stops.
    Stopped,
    /// It is not to be had.
    Absent(Error),
    /// It did not start, or died.
    Failed(String),
}

async fn look_after(shared: Arc<Shared>, component: &'static Component) {
    let mut stop = shared.stop_from.subscribe();
    let stop = async move {
        let _ = stop
            .wait_for(|&tier| u16::from(component.tier) >= tier)
            .await;
    };
    let end = shared.live(component, stop).await;
    let log = shared
        .board
        .borrow()
        .get(component.name)
        .and_then(|status| status.log.clone());
    let last_lines = match end {
        End::Failed(_) => log.as_deref().map(last_lines).unwrap_or_default(),
        End::Stopped | End::Absent(_) => Vec::new(),
    };
    shared.update(component, |status| {
        status.part = None;
        match end {
            End::Stopped => {
                // What had died before stays as it was.
                if status.state != State::Failed || status.pid.is_some() {
                    (status.state, status.detail) = (State::Stopped, None);
                }
            }
            End::Absent(reason) => {
                (status.state, status.detail) = (State::Absent, Some(reason.to_string()))
            }
            End::Failed(reason) => {
                status.state = State::Failed;
                status.detail = Some(reason);
                status.last_lines = last_lines;
            }
        }
        status.pid = None;
    });
}

impl Shared {
    fn update(&self, component: &Component, change: impl FnOnce(&mut Status)) {
        self.board.send_modify(|board| {
            if let Some(status) = board
                .components
                .iter_mut()
                .find(|status| status.name == component.name)
            {
                change(status);
            }
        });
    }

    /// The whole life of a component, to its end.
    async fn live(&self, component: &'static Component, stop: impl Future<Output = ()>) -> End {
        tokio::pin!(stop);
        let start = async {
            let installed = self.install(component).await?;
            self.wait_for_others(component).await;
            Ok::<_, Error>(installed)
        };
        let installed = tokio::select! {
            () = &mut stop => return End::Stopped,
            installed = start => match installed {
                Ok(installed) => installed,
                Err(error @ (Error::MissingTool { .. } | Error::External { .. })) => return End::Absent(error),
                Err(error) => return End::Failed(error.to_string()),
            },
        };
        let started = Instant::now();
        let (mut group, log) = match self.spawn(component, &installed) {
            Ok(Some(spawned)) => spawned,
            Ok(None) => return End::Stopped,
            Err(error) => return End::Failed(error.to_string()),
        };
        self.update(component, |status| {
            status.pid = Some(group.id());
            status.log = Some(log);
            status.detail = None;
        });
        let ready = tokio::select! {
            () = &mut stop => {
                group.stop(STOP_WITHIN).await;
                return End::Stopped;
            }
            status = group.wait() => return End::Failed(died(status, "before it was ready")),
            ready = tokio::time::timeout(READY_WITHIN, self.become_ready(component)) => ready,
        };
        if ready.is_err() {
            group.stop(STOP_WITHIN).await;
            return End::Failed(format!(
                "it was not ready within {} s and has been stopped",
                READY_WITHIN.as_secs()
            ));
        }
        self.update(component, |status| {
            status.state = State::Ready;
            status.ready_after_ms = u64::try_from(started.elapsed().as_millis()).ok();
        });
        tokio::select! {
            () = &mut stop => {
                group.stop(STOP_WITHIN).await;
                End::Stopped
            }
            status = group.wait() => End::Failed(died(status, "while it was running")),
            never = self.keep_looking(component) => match never {},
        }
    }

    /// Notices when a component that runs stops answering, and when it answers again.
    async fn keep_looking(&self, component: &'static Component) -> Infallible {
        let Some(health) = &component.health else {
            return std::future::pending().await;
        };
        let url = self.ports.url(component, health.port) + health.path;
        let mut missed = 0;
        loop {
            tokio::time::sleep(ANSWERS_EVERY).await;
            if self
                .accepts(self.http.get(&url).timeout(ANSWERS_WITHIN))
                .await
            {
                if missed >= MISSES_ALLOWED {
                    self.update(component, |status| {
                        (status.state, status.detail) = (State::Ready, None);
                    });
                }
                missed = 0;
                continue;
            }
            missed += 1;
            if missed == MISSES_ALLOWED {
                self.update(component, |status| {
                    status.state = State::Failed;
                    status.detail = Some(format!("it runs, but {url} does not answer 2xx"));
                });
            }
        }
    }

    async fn install(&self, component: &'static Component) -> Result<Installed, Error> {
        let progress = |progress: Progress| {
            self.update(component, |status| {
                status.detail = Some(progress.step);
                status.part = progress.part;
            });
        };
        let installed = self.installer.ensure(component, &progress).await?;
        self.update(component, |status| {
            status.version = Some(installed.version.clone());
            (status.detail, status.part) = (None, None);
        });
        Ok(installed)
    }

    async fn wait_for_others(&self, component: &Component) {
        let mut board = self.board.subscribe();
        for other in component.after {
            let settled = |board: &Board| {
                board
                    .get(other)
                    .is_none_or(|status| status.state.is_settled())
            };
            if !settled(&board.borrow()) {
                self.update(component, |status| {
                    status.detail = Some(format!("waiting for {other}"))
                });
                let _ = board.wait_for(settled).await;
            }
        }
        self.update(component, |status| status.detail = None);
    }

    /// Starts its process; `None` when the lab has nothing to start for it.
    fn spawn(
        &self,
        component: &'static Component,
        installed: &Installed,
    ) -> Result<Option<(Group, PathBuf)>, Error> {
        let Some(launch) = component.launch else {
            return Ok(None);
        };
        let launching = Launching {
            layout: &self.layout,
            ports: self.ports,
            installed,
            component,
            others: &self.components,
            slo_rules: self.slo_rules.as_deref(),
        };
        let launch = launch(&launching)?;
        let logs = if launch.application_log {
            self.layout.app_logs()
        } else {
            self.layout.component_logs()
        };
        make_dir(&logs)?;
        let log = logs.join(component.name).with_extension("log");
        let limit = if launch.application_log {
            self.policy.limits.log_file_bytes
        } else {
            LOG_ROTATE_BYTES
        };
        let output = open_log(&log, limit, launch.application_log)?;
        let mut command = Command::new(&installed.program);
        if matches!(component.source, Source::Ours) {
            command.args(["component", component.name]);
        }
        let fault = |source| Error::Io {
            doing: "start",
            path: installed.program.clone(),
            source,
        };
        for variable in std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| is_for_one_program(name))
        {
            command.env_remove(variable);
        }
        command
            .args(&launch.args)
            // Everything they talk to is on this machine.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost")
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .envs(
                launch
                    .application_log
                    .then(|| {
                        [
                            (OWN_LOG[0], log.clone().into_os_string()),
                            (OWN_LOG[1], limit.to_string().into()),
                        ]
                    })
                    .into_iter()
                    .flatten(),
            )
            .current_dir(launching.run_dir()?)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(fault)?)
            .stderr(output);
        let guise = Guise {
            identity: if launch.refuses_root {
                Identity::NotRoot
            } else {
                Identity::Same
            },
            usr_share: launch.usr_share.clone(),
        };
        match Group::spawn(&mut command, &guise) {
            Ok(group) => Ok(Some((group, log))),
            Err(error)
                if launch.refuses_root && error.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Err(Error::RootRefused {
                    component: component.name,
                    source: error,
                })
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// Returns once the component is healthy and has taken its set-up.
    async fn become_ready(&self, component: &'static Component) {
        let mut beat = tokio::time::interval(HEALTH_EVERY);
        if let Some(health) = &component.health {
            let url = self.ports.url(component, health.port) + health.path;
            while !self.accepts(self.http.get(&url)).await {
                beat.tick().await;
            }
        }
        for setup in component.setup {
            let base = self.ports.url(component, setup.port);
            if let Some(page) = setup.unless
                && self.accepts(self.http.get(format!("{base}{page}"))).await
            {
                continue;
            }
            let url = base + setup.path;
            let file = self.layout.config(setup.file);
            loop {
                let Ok(body) = std::fs::read(&file) else {
                    self.update(component, |status| {
                        status.detail = Some(format!("cannot read {}", file.display()))
                    });
                    beat.tick().await;
                    continue;
                };
                let request = self
                    .http
                    .put(&url)
                    .header("content-type", "application/json")
                    .body(body);
                if self.accepts(request).await {
                    break;
                }
                self.update(component, |status| {
                    status.detail = Some(format!("it does not take {} yet", file.display()));
                });
                beat.tick().await;
            }
        }
        self.update(component, |status| status.detail = None);
    }

    /// Where this lab's log lines go, if it ships them.
    fn url_of_stored_logs(&self) -> Option<String> {
        let find = |name: &str| self.components.iter().find(|it| it.name == name);
        find("otelcol")?;
        Some(self.ports.url(find("elasticsearch")?, "http"))
    }

    async fn accepts(&self, request: reqwest::RequestBuilder) -> bool {
        let answer = request.send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// Variables that configure one program of the stack. Set for the user's own run of that program,
/// they would change what the lab starts; what the lab wants is on the command line.
fn is_for_one_program(variable: &OsStr) -> bool {
    const PREFIXES: [&str; 9] = [
        "OTEL_",
        "FLASK_API_",
        "PAYMENTS_",
        "EXPORTER_",
        "LOADGEN_",
        "DATABASE_URL",
        "JAEGER_",
        "OTELCOL_",
        "ES_",
    ];
    // How much to trace and how much to log are the user's to say.
    const KEPT: [&str; 2] = ["OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"];
    let name = variable.to_string_lossy();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !KEPT.contains(&&*name)
}

fn died(status: std::io::Result<std::process::ExitStatus>, when: &str) -> String {
    match status {
        Ok(status) => format!("it ended {when} ({status})"),
        Err(error) => format!("it ended {when} ({error})"),
    }
}

/// Opens a log for appending; what earlier runs wrote stays readable until it is too long. Then the shipper may have
/// lines to read in it still, of a service; of others the one before is kept.
fn open_log(path: &Path, limit: u64, shipped: bool) -> Result<File, Error> {
    let fault = |source| Error::Io {
        doing: "open",
        path: path.into(),
        source,
    };
    if std::fs::metadata(path).is_ok_and(|file| file.len() > limit) {
        if shipped {
            set_aside(path).map_err(fault)?;
        } else {
            std::fs::rename(path, path.with_extension("log.1")).map_err(fault)?;
        }
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(fault)
}

/// Whatever bytes they hold.
fn last_lines(log: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..]
        .iter()
        .map(|&line| line.to_owned())
        .collect()
}
