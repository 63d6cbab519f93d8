//! Stand-ins for those whom alerts are sent to: Slack, PagerDuty, a mail server, and a dead man's switch.
//!
//! Each is as strict as what it stands for ([`Refusal`] keeps what it would not have taken), can have a bad day
//! ([`Trouble`]), and keeps what it received ([`Message`]) for one page and for machines. Nothing is forwarded.

mod behaviour;
mod dead_mans_switch;
mod docs;
mod mail;
mod message;
mod pagerduty;
mod pages;
mod receivers;
mod server;
mod site;
mod slack;
mod smtp;
mod store;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, middleware::from_fn, web};
use serde_json::Value;

pub use behaviour::{Behaviour, LONGEST, SLOW, Trouble};
pub use dead_mans_switch::{ALARM, DeadMansSwitch, RECEIVER, Report, State};
pub use docs::rendered;
pub use message::{Channel, Message, Refusal, Status};
pub use receivers::Receivers;
pub use site::{Area, Part, Site};
pub use store::{KEPT, Store};

use message::Notification;

/// The stand-ins of Slack, PagerDuty, a mail server and a dead man's switch, with a page that shows what they received.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address of the pages, of Slack's webhooks and of PagerDuty's Events API
    #[arg(
        long,
        env = "INBOX_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8000"
    )]
    pub listen: SocketAddr,
    /// Address of the mail server
    #[arg(
        long,
        env = "INBOX_SMTP_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:1025"
    )]
    pub smtp_listen: SocketAddr,
    /// File in which messages are kept
    #[arg(long, env = "INBOX_STORE", value_name = "FILE")]
    pub store: PathBuf,
    /// Alertmanager's secret files, by which receivers are known
    #[arg(long, env = "INBOX_SECRETS", value_name = "DIR")]
    pub secrets: PathBuf,
    /// Directory of the documents that messages link to, served at /docs/
    #[arg(long, env = "INBOX_DOCS", value_name = "DIR")]
    pub docs: Option<PathBuf>,
    /// Seconds of silence after which the dead man's switch raises the alarm
    #[arg(long, env = "INBOX_SILENCE", value_name = "SECONDS", default_value_t = SILENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    pub silence: u64,
    /// Further host names under which the pages are served, besides loopback
    #[arg(
        long = "host",
        env = "INBOX_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub hosts: Vec<String>,
}

/// What the dead man's switch waits for: three signs of life of `alertmanager.yml`, or the time after which Alertmanager takes
/// the watchdog of a Prometheus that is gone for ended.
pub const SILENCE: Duration = Duration::from_secs(90);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Messages cannot be kept.
    #[error("cannot keep messages in {path}: {source}; choose another file with --store", path = path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Receivers are not known.
    #[error("cannot read the directory of secret files {path}: {source}; --secrets names Alertmanager's", path = path.display())]
    Secrets {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port is taken.
    #[error("cannot listen on {address} ({option}): {source}; is another inbox running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that sets it.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The server failed.
    #[error("the inbox ended: {0}")]
    Serve(#[from] io::Error),
}

/// What the stand-ins share.
#[derive(Debug)]
pub(crate) struct Inbox {
    store: Store,
    behaviour: Behaviour,
    receivers: Receivers,
    switch: DeadMansSwitch,
    docs: Option<PathBuf>,
    hosts: Vec<String>,
}

impl Inbox {
    fn taken(&self, channel: Channel, notification: Notification) -> Result<(), Error> {
        self.store.take(channel, notification).inspect_err(report)
    }

    /// What was refused was refused, whether or not that can be kept.
    fn refused(
        &self,
        channel: Channel,
        receiver: Option<&str>,
        answer: (u16, &str),
        payload: Value,
    ) {
        drop(
            self.store
                .refuse(channel, receiver, answer, payload)
                .inspect_err(report),
        );
    }

    /// Keeps an alarm of the dead man's switch, or its end.
    fn sound(&self, alarm: Option<Notification>) {
        if let Some(alarm) = alarm {
            drop(self.taken(Channel::Webhook, alarm));
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what cannot be kept has no other way to be told"
)]
fn report(error: &Error) {
    eprintln!("inbox: {error}");
}

/// What was received last, for a page beside the inbox.
#[derive(Debug, Clone)]
pub struct Newest(Arc<Inbox>);

impl Newest {
    /// So many messages, the latest first.
    #[must_use]
    pub fn take(&self, number: usize) -> Vec<Message> {
        self.0.store.newest(|it| Some(it.clone()), number)
    }

    /// What is wanted of all that are kept, the latest first.
    pub fn each<T>(&self, wanted: impl FnMut(&Message) -> Option<T>) -> Vec<T> {
        self.0.store.newest(wanted, KEPT)
    }
}

/// The stand-ins, bound to their ports.
#[derive(Debug)]
pub struct StandIns {
    http: TcpListener,
    smtp: TcpListener,
    inbox: Arc<Inbox>,
}

impl StandIns {
    /// Binds the ports and reads what an earlier run kept.
    ///
    /// # Errors
    /// When a port is taken, or a file or directory cannot be read.
    pub fn bind(args: Args) -> Result<Self, Error> {
        let receivers = Receivers::new(&args.secrets)?;
        let store = Store::open(&args.store)?;
        Ok(Self {
            http: bind(args.listen, "--listen")?,
            smtp: bind(args.smtp_listen, "--smtp-listen")?,
            inbox: Arc::new(Inbox {
                store,
                behaviour: Behaviour::default(),
                receivers,
                switch: DeadMansSwitch::new(Duration::from_secs(args.silence), Instant::now()),
                docs: args.docs,
                hosts: args.hosts,
            }),
        })
    }

    /// Where the pages are.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where mail goes.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn smtp_address(&self) -> io::Result<SocketAddr> {
        self.smtp.local_addr()
    }

    /// The newest messages, the latest first.
    #[must_use]
    pub fn newest(&self) -> Newest {
        Newest(Arc::clone(&self.inbox))
    }

    /// Serves until SIGTERM or Ctrl-C, as a part of `site`.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self, site: Site) -> Result<(), Error> {
        let smtp = tokio::net::TcpListener::from_std(self.smtp)?;
        let mail = tokio::spawn(smtp::serve(smtp, Arc::clone(&self.inbox)));
        let watched = Arc::clone(&self.inbox);
        let watch = tokio::spawn(async move {
            loop {
                tokio::time::sleep_until(watched.switch.deadline().into()).await;
                watched.sound(watched.switch.check(Instant::now()));
            }
        });
        let data = web::Data::from(self.inbox);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::Data::new(site.frame))
                .app_data(web::PayloadConfig::new(2 * pagerduty::EVENT))
                .wrap(from_fn(server::check_host))
                .configure(server::register)
                .configure(|routes| (site.routes)(routes))
        })
        .on_connect(server::on_connect)
        .workers(1)
        // Every message is on disk before it is answered: there is nothing to wait for.
        .shutdown_timeout(1)
        .listen(self.http)?
        .run();
        let served = server.await;
        mail.abort();
        watch.abort();
        Ok(served?)
    }
}

fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| Error::Listen {
        address,
        option,
        source,
    })
}
