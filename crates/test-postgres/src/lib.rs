//! Real PostgreSQL servers for tests: started by them, gone with them.
//!
//! [`Database::create`] is what most tests want: an empty database of its own on a server that the
//! tests of one process share. [`Server::start`] is for those that stop the server.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "only tests use this: they may fail anywhere, and say why they were skipped"
)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

/// The superuser; it needs no password.
const OWNER: &str = "shop";

/// No machine is this slow: whoever waits so long has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// An empty database. The server it is on ends with the last of its databases.
#[derive(Debug)]
pub struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// Makes a database, or none where PostgreSQL is not installed. In CI (`CI` is set) it has to be.
    pub async fn create() -> Option<Self> {
        let server = Server::shared()?;
        let name = format!("shop_{}", uuid::Uuid::new_v4().simple());
        let mut maintenance = server.connect("postgres").await;
        // The name is made of digits and letters.
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut maintenance)
            .await
            .unwrap();
        maintenance.close().await.unwrap();
        Some(Self { server, name })
    }

    /// Its URL, for its owner.
    pub fn url(&self) -> String {
        self.server.url(OWNER, &self.name)
    }

    /// Its URL for a user, written `NAME` or `NAME:PASSWORD`. Any password will do.
    pub fn url_for(&self, user: &str) -> String {
        self.server.url(user, &self.name)
    }

    /// A connection of its owner.
    pub async fn connect(&self) -> PgConnection {
        self.server.connect(&self.name).await
    }
}

/// A server with the database `postgres`. It listens on a socket in a folder of its own, needs no
/// port, and ends when it is dropped or when the process ends, whatever ends that.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    process: Option<Process>,
}

/// The thread that started the server and waits for its end: the kernel ends the server with the
/// thread that is its parent, and the thread of a test does not live long enough.
#[derive(Debug)]
struct Process {
    id: Pid,
    keeper: JoinHandle<()>,
}

impl Server {
    /// Starts a server, or none where PostgreSQL is not installed. In CI (`CI` is set) it has to be.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "PostgreSQL is missing: apt-get install postgresql"
            );
            println!("skipped: no PostgreSQL under /usr/lib/postgresql or on PATH");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        if nix::unistd::geteuid().is_root() {
            let nobody = nobody();
            chown(folder.path(), Some(nobody.uid), Some(nobody.gid)).unwrap();
        }
        let mut initdb = as_nobody(&programs.join("initdb"));
        initdb
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--username", OWNER, "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path());
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut server = Self {
            folder,
            programs,
            process: None,
        };
        server.resume();
        Some(server)
    }

    /// The server that the running tests of this process share.
    fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = match shared.upgrade() {
            Some(server) => server,
            None => Arc::new(Self::start()?),
        };
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// The URL of a database for a user, written `NAME` or `NAME:PASSWORD`. Any password will do.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}@localhost/{database}?host={}",
            self.folder.path().display()
        )
    }

    /// The URL of the database `postgres` for its owner.
    pub fn owner_url(&self) -> String {
        self.url(OWNER, "postgres")
    }

    /// A connection of the owner to a database.
    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnectOptions::new_without_pgpass()
            .socket(self.folder.path())
            .username(OWNER)
            .database(database)
            .connect()
            .await
            .unwrap()
    }

    /// Stops the server at once, as a crash would. Its data stays.
    pub fn stop(&mut self) {
        self.thaw();
        // Immediate shutdown: it takes its backends along.
        self.signal(Signal::SIGQUIT);
        if let Some(process) = self.process.take() {
            process.keeper.join().unwrap();
        }
    }

    /// Starts a stopped server, and waits until it answers.
    pub fn resume(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let mut postgres = as_nobody(&self.programs.join("postgres"));
        postgres
            .arg("-D")
            .arg(folder.join("data"))
            .arg("-k")
            .arg(folder)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .args(["-c", "shared_buffers=16MB", "-c", "max_connections=100"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(log);
        let (started, id) = mpsc::channel();
        let keeper = thread::spawn(move || {
            let mut child = postgres.spawn().unwrap();
            started.send(child.id()).unwrap();
            child.wait().unwrap();
        });
        let id = Pid::from_raw(id.recv().unwrap().cast_signed());
        self.process = Some(Process { id, keeper });
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut is_ready = Command::new(self.programs.join("pg_isready"));
        is_ready
            .arg("-h")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        while !is_ready.status().unwrap().success() {
            let ended = self.process.as_ref().unwrap().keeper.is_finished();
            assert!(
                !ended && Instant::now() < deadline,
                "PostgreSQL does not start: {:?}",
                std::fs::read_to_string(self.folder.path().join("log"))
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes the server hang: it takes connections and requests, and answers none.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Ends a [`Server::freeze`].
    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Sends a signal to the main process, so that it starts no further ones, and to its sessions.
    fn signal_all(&self, signal: Signal) {
        let Some(Process { id, .. }) = &self.process else {
            return;
        };
        self.signal(signal);
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            // Ended meanwhile, maybe.
            let _ = kill(Pid::from_raw(child.parse().unwrap()), signal);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let _ = kill(process.id, signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where `initdb` and `postgres` are: Debian keeps them off PATH.
fn programs() -> Option<PathBuf> {
    let versions = match std::fs::read_dir("/usr/lib/postgresql") {
        Ok(versions) => Some(versions),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            None
        }
    };
    let debian = versions
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn nobody() -> User {
    User::from_name("nobody")
        .unwrap()
        .expect("every Unix has nobody")
}

/// PostgreSQL refuses to run as root: then it runs as nobody. The kernel ends it with its parent.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if nix::unistd::geteuid().is_root() {
        let nobody = nobody();
        command
            .arg("--clear-groups")
            .args(["--reuid", &nobody.uid.to_string()])
            .args(["--regid", &nobody.gid.to_string()]);
    }
    command.arg(program);
    command
}
