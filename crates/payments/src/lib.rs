//! Payments: the service that flask-api depends on, so that a trace crosses a process.
//!
//! It approves what is small enough and declines the rest. What it approved it remembers by order,
//! which makes a retry safe; memory holds the last hundred thousand.

mod api;
mod behaviour;
mod ledger;

use std::{process::ExitCode, time::Duration};

use crate::behaviour::{Behaviour, Switch};
use actix_web::web;
use service::{Faults, Program, Red, ServerArgs, Service, parse_duration};

/// Environment names and defaults of this program.
#[derive(Debug, Clone)]
pub enum Payments {}

impl Program for Payments {
    const LISTEN: &'static str = "127.0.0.1:5010";
    const LISTEN_ENV: &'static str = "PAYMENTS_LISTEN";
    const TLS_LISTEN_ENV: &'static str = "PAYMENTS_TLS_LISTEN";
    const TLS_CERTIFICATE_ENV: &'static str = "PAYMENTS_TLS_CERTIFICATE";
    const TLS_KEY_ENV: &'static str = "PAYMENTS_TLS_KEY";
    const ADMIN_LISTEN: &'static str = "127.0.0.1:5110";
    const ADMIN_LISTEN_ENV: &'static str = "PAYMENTS_ADMIN_LISTEN";
    const WORKERS: &'static str = "1";
    const WORKERS_ENV: &'static str = "PAYMENTS_WORKERS";
    const DRAIN_DELAY_ENV: &'static str = "PAYMENTS_DRAIN_DELAY";
    const SHUTDOWN_TIMEOUT_ENV: &'static str = "PAYMENTS_SHUTDOWN_TIMEOUT";
}

/// Takes payments for orders.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "payments", version, after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs<Payments>,

    /// Typical time a payment takes; each takes between half and one and a half of it
    #[arg(long, value_name = "TIME", env = "PAYMENTS_LATENCY", default_value = "5ms", value_parser = parse_duration)]
    latency: Duration,

    /// Largest amount that is approved, in cents; anything above is declined with 402
    #[arg(
        long,
        value_name = "CENTS",
        env = "PAYMENTS_DECLINE_OVER",
        default_value_t = 1_000_000
    )]
    #[arg(value_parser = clap::value_parser!(i64).range(0..))]
    decline_over: i64,

    /// Share of payments that is declined, whatever the amount
    #[arg(long, value_name = "SHARE", env = "PAYMENTS_DECLINE_SHARE", default_value_t = 0.0, value_parser = parse_share)]
    decline_share: f64,

    /// Share of payments that fails with 503 and takes nothing
    #[arg(long, value_name = "SHARE", env = "PAYMENTS_FAIL_SHARE", default_value_t = 0.0, value_parser = parse_share)]
    fail_share: f64,

    /// Share of payments that is taken and then answered with 504: a retry must not take it again
    #[arg(long, value_name = "SHARE", env = "PAYMENTS_LOSE_SHARE", default_value_t = 0.0, value_parser = parse_share)]
    lose_share: f64,
}

impl Args {
    fn behaviour(&self) -> Behaviour {
        Behaviour {
            latency: self.latency,
            decline_over_cents: self.decline_over,
            decline_share: self.decline_share,
            fail_share: self.fail_share,
            lose_share: self.lose_share,
        }
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1, for example 0.05".to_owned()),
    }
}

const EXAMPLES: &str = "\
Examples:
  payments                                       serve on 127.0.0.1:5010, admin pages on 5110
  payments --latency 400ms                       a slow dependency, to see it in a trace
  payments --decline-over 0                      decline everything
  payments --fail-share 0.2 --lose-share 0.05    to see retries, and a circuit breaker open
  curl -X PATCH localhost:5110/behaviour -H \"authorization: Bearer $(cat token)\" \\
       --json '{\"latency\": \"400ms\", \"decline_share\": 0.5}'
                                                 the same while it runs; needs --chaos-token-file token
  curl -i localhost:5010/api/payments -H 'content-type: application/json' \\
       -d '{\"order_id\": 1, \"amount_cents\": 1999}'
  curl localhost:5110/metrics

Spans go where OTEL_EXPORTER_OTLP_ENDPOINT says.
Exit codes: 0 stopped in order, 1 failed or forced, 2 wrong settings or a port in use.";

/// Serves until SIGTERM or SIGINT.
pub fn run(args: Args) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let options = telemetry::Options {
        service_name: "payments",
        service_version: version,
        log_filter: args.server.log_level.clone(),
        log_output: telemetry::LogOutput::Stdout,
    };
    service::run(options, args.server.shutdown_timeout, async |telemetry| {
        let registry = prometheus::Registry::new();
        telemetry.register(&registry)?;
        let red = Red::new(&registry, "payments", version, &api::ROUTES)?;
        let token = args.server.chaos_token()?;
        let faults = Faults::new(
            token,
            telemetry.sabotage(),
            &registry,
            "payments",
            &api::ROUTES,
            &[],
        )?;
        let behaviour = args.behaviour();
        behaviour.check().map_err(|mistakes| {
            let mistakes: Vec<String> = mistakes
                .into_iter()
                .map(|mistake| format!("{} {}", mistake.field, mistake.message))
                .collect();
            service::Error::Usage(mistakes.join("; "))
        })?;
        let switch = Switch::new(behaviour);
        let cashier = web::Data::new(api::Cashier::new(switch.clone()));
        let server = Service::new(args.server.config(), registry, red)
            .log_level(telemetry.log_level())
            .admin(behaviour::pages(switch, faults.clone()))
            .faults(faults)
            .bind(move |routes| api::register(routes, cashier.clone()))?;
        Ok(server.run().await?)
    })
}
