//! Two ports, from bound to drained.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_cors::Cors;
use actix_web::{
    App, HttpServer,
    dev::{self, ServerHandle, Service as _},
    error::InternalError,
    http::{Method, header},
    middleware::{Condition, from_fn},
    rt, web,
};
use prometheus::Registry;
use telemetry::LogLevel;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use crate::{
    Faults, Listen, Readiness, Red, ServerConfig, admin, faults, json_config,
    limits::{Distrust, Gate, guard, secure},
    observe::{head_as_get, observe},
    problem::{path_config, query_config},
    readiness::probes,
    tls::{FROM_TLS12, TlsError},
};

/// Longer than clients keep an idle connection in their pools, so that it is they who close it and
/// no request meets a connection the server is just closing.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

type Pages = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// Why a service could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address could not be bound.
    #[error(
        "cannot listen on {}: {reason}; choose another address with {} or {} (port 0 takes a free one), or end the program that holds this one",
        .listen.address, .listen.flag, .listen.env
    )]
    Bind {
        /// The address, and how to change it.
        listen: Listen,
        /// What the operating system says.
        reason: io::Error,
    },
    /// The certificate of the HTTPS address cannot be used.
    #[error("{0} (--tls-certificate, --tls-key)")]
    Tls(TlsError),
    /// The handlers of SIGTERM and SIGINT could not be set up.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// A server ended without being asked to.
    #[error("the server failed: {0}")]
    Serve(io::Error),
    /// The settings are wrong; the text names the cause and the cure.
    #[error("{0}")]
    Usage(String),
    /// Something the service needs is not there; the text says what and how to get it.
    #[error("{0}")]
    Missing(String),
}

impl Error {
    /// The exit code of a program that ends with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Bind { .. } | Self::Tls(_) | Self::Usage(_) => 2,
            Self::Missing(_) => 3,
            Self::Signals(_) | Self::Serve(_) => 1,
        }
    }
}

/// Everything a service is made of; [`Service::bind`] turns it into a [`Server`].
pub struct Service {
    config: ServerConfig,
    registry: Registry,
    red: Red,
    readiness: Readiness,
    log_level: Option<LogLevel>,
    faults: Faults,
    admin: Pages,
    documentation: Pages,
}

impl Service {
    /// A service that shows the metrics of `registry` and counts its requests in `red`.
    pub fn new(config: ServerConfig, registry: Registry, red: Red) -> Self {
        Self {
            config,
            registry,
            red,
            readiness: Readiness::new(),
            log_level: None,
            faults: Faults::off(),
            admin: Arc::new(|_| {}),
            documentation: Arc::new(|_| {}),
        }
    }

    /// What `/readyz` answers; without it the service is ready once it serves.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Lets `/log-level` on the admin port read and change the log filter.
    pub fn log_level(mut self, log_level: LogLevel) -> Self {
        self.log_level = Some(log_level);
        self
    }

    /// Lets `/chaos` on the admin port start these faults, and a header on one request.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Adds pages to the admin port. Called once per thread.
    pub fn admin(
        mut self,
        pages: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.admin = Arc::new(pages);
        self
    }

    /// Adds pages to the public port that are about the API and no part of it: like probes they are
    /// neither counted nor traced. Called once per thread.
    pub fn documentation(
        mut self,
        pages: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Self {
        self.documentation = Arc::new(pages);
        self
    }

    /// Binds both ports. `public` registers the handlers of the public API, once per thread: what
    /// it shares between threads has to be made outside. Call it within an actix `System`.
    ///
    /// # Errors
    /// [`Error::Bind`] when an address is taken or not ours, [`Error::Tls`], [`Error::Signals`].
    pub fn bind(
        self,
        public: impl Fn(&mut web::ServiceConfig) + Send + Sync + 'static,
    ) -> Result<Server, Error> {
        let Self {
            config,
            registry,
            red,
            readiness,
            log_level,
            faults,
            admin,
            documentation,
        } = self;
        // Read before a port is taken.
        let tls = config
            .tls
            .map(|tls| Ok((tls.listen, tls.files.serve(FROM_TLS12)?)));
        let tls = tls.transpose().map_err(Error::Tls)?;
        faults.hold(&readiness);
        let public: Pages = Arc::new(public);
        let connections = red.clone();
        let probes_of = readiness.clone();
        let plans = faults.clone();
        let limits = config.limits.clone();
        let gate = Arc::new(Gate::new(limits.clone(), red.clone()));
        let forgetting = Arc::clone(&gate);
        let origins = config.cors_origins.clone();
        let mut public = HttpServer::new(move || {
            let (red, plans, gate) = (red.clone(), plans.clone(), Arc::clone(&gate));
            let public = Arc::clone(&public);
            let documentation = Arc::clone(&documentation);
            App::new()
                // Neither probes nor refusals are exempt from it.
                .wrap_fn(|request, service| {
                    let is_tls = request.app_config().secure();
                    let answer = service.call(request);
                    async move {
                        match answer.await {
                            Ok(mut response) => {
                                secure(response.headers_mut(), is_tls);
                                Ok(response)
                            }
                            Err(error) => {
                                let mut response = error.error_response();
                                secure(response.headers_mut(), is_tls);
                                Err(InternalError::from_response(error, response).into())
                            }
                        }
                    }
                })
                .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
                .app_data(json_config(limits.body_bytes))
                .app_data(path_config())
                .app_data(query_config())
                // Before the scope, hence outside its middleware: probes are no requests to count.
                .configure(probes(probes_of.clone()))
                .configure(|pages| documentation(pages))
                .service(
                    web::scope("")
                        .wrap(from_fn(head_as_get))
                        // The last one is the outermost.
                        .wrap(from_fn(move |request, next| {
                            let plan = plans.plan(&request);
                            observe(red.clone(), plan, request, next)
                        }))
                        .wrap(from_fn(move |request, next| {
                            guard(Arc::clone(&gate), request, next)
                        }))
                        .configure(|routes| public(routes)),
                )
        })
        .on_connect(move |_, connection| {
            connection.insert(connections.connection());
            connection.insert(Distrust::default());
        })
        .workers(config.workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(config.limits.head_time)
        .tcp_nodelay(true)
        .shutdown_timeout(config.shutdown_timeout.as_secs_f64().ceil() as u64)
        .disable_signals()
        .bind(config.listen.address)
        .map_err(|reason| Error::Bind {
            listen: config.listen,
            reason,
        })?;
        if let Some((listen, tls)) = tls {
            public = public
                .bind_rustls_0_23(listen.address, tls)
                .map_err(|reason| Error::Bind { listen, reason })?;
        }

        let state = readiness.clone();
        let admin = HttpServer::new(move || {
            let app = App::new()
                .wrap(from_fn(head_as_get))
                .configure(probes(state.clone()))
                .configure(admin::metrics(registry.clone()))
                .configure(faults::pages(faults.clone()))
                .configure(|pages| admin(pages));
            match &log_level {
                Some(log_level) => app.configure(admin::log_level(log_level.clone())),
                None => app,
            }
        })
        .workers(1)
        .disable_signals()
        .bind(config.admin_listen.address)
        .map_err(|reason| Error::Bind {
            listen: config.admin_listen,
            reason,
        })?;

        let stop = StopRequests {
            terminate: signal(SignalKind::terminate()).map_err(Error::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Error::Signals)?,
            shutdown: Shutdown::default(),
        };
        Ok(Server {
            address: public.addrs()[0],
            tls_address: public.addrs().get(1).copied(),
            admin_address: admin.addrs()[0],
            public: public.run(),
            admin: admin.run(),
            drain_delay: config.drain_delay,
            readiness,
            forgetting,
            stop,
        })
    }
}

/// What pages of these origins may do; the API has no cookies to send along.
fn cors(origins: &[String]) -> Cors {
    origins
        .iter()
        .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin))
        .allowed_methods([Method::GET, Method::HEAD, Method::POST])
        .allowed_headers([
            header::ACCEPT.as_str(),
            header::CONTENT_TYPE.as_str(),
            "idempotency-key",
            "traceparent",
            "tracestate",
        ])
        .expose_headers(["location", "retry-after", "idempotency-replayed"])
        .max_age(3600)
}

/// A service whose ports are bound.
#[must_use = "it serves when it is run"]
pub struct Server {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    admin_address: SocketAddr,
    public: dev::Server,
    admin: dev::Server,
    drain_delay: Duration,
    readiness: Readiness,
    /// Has clients to forget.
    forgetting: Arc<Gate>,
    stop: StopRequests,
}

impl Server {
    /// Where the public API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks HTTPS.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Where the admin pages are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Ends the service from within the process.
    pub fn shutdown(&self) -> Shutdown {
        self.stop.shutdown.clone()
    }

    /// Serves until SIGTERM, SIGINT or [`Shutdown::trigger`], then stops in order: readiness fails,
    /// it serves on for the drain delay, no longer accepts, and waits for the requests in flight.
    /// A second signal cuts that short.
    ///
    /// # Errors
    /// [`Error::Serve`] when the public port stops being served without being asked to.
    pub async fn run(self) -> Result<Stopped, Error> {
        let Self {
            address,
            tls_address,
            admin_address,
            public,
            admin,
            drain_delay,
            readiness,
            forgetting,
            mut stop,
        } = self;
        let admin_handle = admin.handle();
        let stopped = |forced| Stopped {
            admin: admin_handle,
            forced,
        };
        rt::spawn(forgetting.forget());
        rt::spawn(admin);
        let public_handle = public.handle();
        let mut serving = rt::spawn(public);
        let listening = [
            (Some(address), "listening"),
            (tls_address, "listening for HTTPS"),
            (Some(admin_address), "admin listening"),
        ];
        for (address, message) in listening {
            let Some(address) = address else { continue };
            tracing::info!(
                server.address = %address.ip(),
                server.port = address.port(),
                "{message}"
            );
        }

        tokio::select! {
            ended = &mut serving => {
                let reason = match ended {
                    Ok(Ok(())) => io::Error::other("it stopped by itself"),
                    Ok(Err(error)) => error,
                    Err(panic) => io::Error::other(panic),
                };
                return Err(Error::Serve(reason));
            }
            () = stop.requested() => {}
        }
        readiness.drain();
        tracing::info!("stopping: not ready, serving on until load balancers have noticed");
        let drained = async {
            tokio::time::sleep(drain_delay).await;
            tracing::info!("stopping: no new connections, waiting for requests in flight");
            public_handle.stop(true).await;
        };
        tokio::select! {
            () = drained => {
                tracing::info!("stopped");
                Ok(stopped(false))
            }
            () = stop.requested() => {
                // Dropping a server closes its listeners and ends its workers.
                serving.abort();
                tracing::warn!("stopped at once by a second signal; requests in flight are lost");
                Ok(stopped(true))
            }
        }
    }
}

/// Keeps the admin port answering, so that liveness holds to the very end, until it is dropped.
#[must_use = "the admin port closes when it is dropped"]
pub struct Stopped {
    admin: ServerHandle,
    forced: bool,
}

impl Stopped {
    /// Whether a second signal cut the order of shutdown short.
    pub fn forced(&self) -> bool {
        self.forced
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // The command is sent by the call; the future only waits for it.
        drop(self.admin.stop(false));
    }
}

/// Asks a [`Server`] to stop, as SIGTERM does; clones ask the same server.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Notify>);

impl Shutdown {
    /// Starts the order of shutdown; a second call cuts it short.
    pub fn trigger(&self) {
        self.0.notify_one();
    }
}

struct StopRequests {
    terminate: Signal,
    interrupt: Signal,
    shutdown: Shutdown,
}

impl StopRequests {
    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = self.shutdown.0.notified() => {}
        }
    }
}
