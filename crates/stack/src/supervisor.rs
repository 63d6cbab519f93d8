//! Starts the components, watches them, ends them.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{process::Command, sync::watch, task::JoinSet};

use crate::{
    Board, Component, Error, Installed, Installer, Launching, Layout, Ports, Progress, Source,
    State, Status,
    layout::make_dir,
    process::{Group, Guise, Identity},
};

/// How long a component may take to become ready once started. Elasticsearch on two busy cores
/// needs the most, about a third of it.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// How long a component may take to end before it is killed. Services drain for a few seconds.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Between two looks at a health page.
const HEALTH_EVERY: Duration = Duration::from_millis(100);
/// Last log lines shown of a component that has failed.
const LAST_LINES: usize = 8;
/// A log that has grown past this is set aside when its component starts again.
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
            .filter(|component| component.launch.is_some())
            .collect();
        let busy = ports.busy(&started);
        if !busy.is_empty() {
            return Err(Error::PortsBusy(busy));
        }
        let board = Board::new(&layout, ports, &components);
        board.save(&layout.state_file())?;
        let shared = Shared {
            installer: Installer::new(layout.clone()),
            layout,
            ports,
            components,
            slo_rules: None,
            board: watch::Sender::new(board),
            stop_from: watch::Sender::new(u16::MAX),
            http: reqwest::Client::new(),
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
    /// begun, `force` kills what is left.
    ///
    /// Call it on the main thread of a current-thread runtime: components live as long as the thread
    /// that started them.
    pub async fn run(self, stop: impl Future<Output = ()>, force: impl Future<Output = ()>) {
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
        stop.await;
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
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(fault)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Error::AlreadyRunning {
            data_dir: layout.data().into(),
            pid: crate::board::lock_holder(&path),
        }),
        Err(TryLockError::Error(source)) => Err(fault(source)),
    }
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
    shared.update(component, |status| {
        status.pid = None;
        status.part = None;
        match end {
            End::Stopped => {
                if status.state != State::Failed {
                    (status.state, status.detail) = (State::Stopped, None);
                }
            }
            End::Absent(reason) => {
                (status.state, status.detail) = (State::Absent, Some(reason.to_string()))
            }
            End::Failed(reason) => {
                status.state = State::Failed;
                status.detail = Some(reason);
                status.last_lines = status.log.as_deref().map(last_lines).unwrap_or_default();
            }
        }
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
        let output = open_log(&log)?;
        let mut command = Command::new(&installed.program);
        if matches!(component.source, Source::Ours) {
            command.args(["component", component.name]);
        }
        let fault = |source| Error::Io {
            doing: "start",
            path: installed.program.clone(),
            source,
        };
        command
            .args(&launch.args)
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
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
            let url = self.ports.url(component, setup.port) + setup.path;
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

    async fn accepts(&self, request: reqwest::RequestBuilder) -> bool {
        let answer = request.timeout(Duration::from_secs(10)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

fn died(status: std::io::Result<std::process::ExitStatus>, when: &str) -> String {
    match status {
        Ok(status) => format!("it ended {when} ({status})"),
        Err(error) => format!("it ended {when} ({error})"),
    }
}

/// Opens a log for appending; what earlier runs wrote stays readable until it is too long.
fn open_log(path: &Path) -> Result<File, Error> {
    let fault = |source| Error::Io {
        doing: "open",
        path: path.into(),
        source,
    };
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LOG_ROTATE_BYTES) {
        std::fs::rename(path, path.with_extension("log.1")).map_err(fault)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(fault)
}

fn last_lines(log: &Path) -> Vec<String> {
    let Ok(file) = File::open(log) else {
        return Vec::new();
    };
    let mut last = VecDeque::new();
    for line in BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .filter(|line| !line.trim().is_empty())
    {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into()
}
