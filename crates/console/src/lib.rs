//! The pages people look at: what runs and how it is, dashboards, searching, breaking things; and the inbox beside them.
//!
//! Everything is made on the server, escaped by `maud`, and needs nothing from elsewhere: one style sheet, one small script.
//! A back end that is down is a sentence on the page ([`backend::Trouble`]), never an error page. What changes something asks
//! for the page's token ([`guard`]).

mod assets;
mod backend;
pub mod chaos;
mod choice;
mod dashboards;
mod drills;
pub mod elasticsearch;
mod explore;
mod faults;
mod guard;
pub mod jaeger;
mod labs;
mod overview;
mod page;
mod program;
mod prometheus;
mod settings;
mod silence;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use actix_web::web;

pub use dashboards::OF_LEARNER;
pub use settings::Args;

use crate::{
    backend::Backend, drills::Drills, guard::FormToken, labs::Labs, page::Place, program::Program,
    prometheus::Prometheus, silence::Address,
};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inbox's part.
    #[error(transparent)]
    Inbox(#[from] inbox::Error),
    /// Not a place of a lab.
    #[error(transparent)]
    Place(#[from] stack::Error),
    /// No client.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// What the pages share.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) args: Args,
    pub(crate) prometheus: Prometheus,
    pub(crate) alertmanager: Backend,
    pub(crate) jaeger: Backend,
    pub(crate) elasticsearch: Backend,
    /// The lab that this is a part of.
    pub(crate) lab: Option<stack::Layout>,
    pub(crate) token: FormToken,
    pub(crate) newest: inbox::Newest,
    pub(crate) drills: Drills,
    pub(crate) labs: Labs,
    /// For what is no back end with pages of its own: admin ports.
    pub(crate) http: reqwest::Client,
    /// Those ports, by replica.
    pub(crate) admin: BTreeMap<String, Address>,
}

/// The console, bound to its ports.
#[derive(Debug)]
pub struct Server {
    stand_ins: inbox::StandIns,
    console: Console,
    orders: drills::Orders,
}

impl Server {
    /// Binds the ports.
    ///
    /// # Errors
    /// When a port is taken, or a file or directory cannot be read.
    pub fn bind(args: Args) -> Result<Self, Error> {
        let stand_ins = inbox::StandIns::bind(args.inbox.clone())?;
        let http = backend::client()?;
        let lab = args.lab()?;
        let program = lab
            .as_ref()
            .and_then(|lab| Program::new(lab, args.lab_program.clone()));
        let (drills, orders) = Drills::new(program.clone());
        let console = Console {
            prometheus: Prometheus::new(&http, args.prometheus.as_deref()),
            alertmanager: Backend::new("Alertmanager", &http, args.alertmanager.as_deref()),
            jaeger: Backend::new("Jaeger", &http, args.jaeger.as_deref()),
            elasticsearch: Backend::new("Elasticsearch", &http, args.elasticsearch.as_deref()),
            labs: Labs::new(lab.clone(), program),
            lab,
            token: FormToken::new(),
            newest: stand_ins.newest(),
            drills,
            admin: args
                .admin_ports()
                .iter()
                .map(|(name, url)| (name.clone(), Address::new(&http, url)))
                .collect(),
            http,
            args,
        };
        Ok(Self {
            stand_ins,
            console,
            orders,
        })
    }

    /// Where the pages are.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<std::net::SocketAddr> {
        self.stand_ins.http_address()
    }

    /// Serves until SIGTERM or Ctrl-C.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn run(self) -> Result<(), Error> {
        let console = web::Data::new(self.console);
        let pages = console.clone();
        let site = inbox::Site {
            frame: |part| page::Page::new(Place::of(part.area), part.title, part.main).respond(),
            routes: Arc::new(move |routes| {
                routes
                    .app_data(pages.clone())
                    .configure(assets::register)
                    .configure(overview::register)
                    .configure(dashboards::register)
                    .configure(explore::register)
                    .configure(faults::register)
                    .configure(drills::register)
                    .configure(labs::register)
                    .default_service(web::to(page::not_found));
            }),
        };
        // Children are tied to the thread that starts them: to this one, which outlives the server's.
        let served = async {
            let served = self.stand_ins.run(site).await;
            console.drills.end();
            served
        };
        let (served, ()) = futures::join!(served, console.drills.carry_out(self.orders));
        Ok(served?)
    }
}

/// Runs the console as a program.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    let served =
        Server::bind(args).and_then(|server| actix_web::rt::System::new().block_on(server.run()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "why a program does not start is told where it was started"
)]
fn report(error: &Error) {
    eprintln!("console: {error}");
}
