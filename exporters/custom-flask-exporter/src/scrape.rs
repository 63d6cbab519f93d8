//! One scrape: every collector asked once, within a deadline, into a registry of its own.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use prometheus::{GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use reqwest::Client;

use crate::api::{Api, BaseUrl};
use crate::collectors::{ApiStatus, Collector, CollectorName, Source};
use crate::database::{Database, ReadError, within};

/// Kept back from the time Prometheus allows, for the answer to travel. The Blackbox Exporter's
/// default.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Longest `--scrape-timeout`: far above Prometheus' default of 10 s, far below what SQLite's busy
/// timeout can hold.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads a duration as written on the command line: `2s`, `500ms`, `1m`.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse::<SignedDuration>()
        .map_err(|_| "not a duration: write it like 2s or 500ms".to_owned())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration <= LONGEST_TIMEOUT)
        .ok_or_else(|| {
            format!(
                "must be above 0s and at most {}s",
                LONGEST_TIMEOUT.as_secs()
            )
        })
}

/// Time a scrape or a probe may take: the configured `limit`, or less when Prometheus says in
/// `X-Prometheus-Scrape-Timeout-Seconds` that it gives up earlier. A header that is no positive
/// number is ignored.
pub(crate) fn time_allowed(limit: Duration, header: Option<&str>) -> Duration {
    let prometheus_waits = header
        .and_then(|seconds| seconds.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|wait| !wait.is_zero());
    match prometheus_waits {
        // Of a very short wait, most is left for reading.
        Some(wait) => limit.min(wait - ANSWER_TIME.min(wait / 4)),
        None => limit,
    }
}

/// Answers scrapes of one shop.
pub struct Scraper {
    database: Database,
    collectors: Vec<CollectorName>,
    api: Option<(Client, BaseUrl)>,
    limit: Duration,
    own_metrics: Registry,
}

/// The metrics that say how the scrape itself went.
struct Outcome {
    up: IntGauge,
    success: IntGaugeVec,
    duration: GaugeVec,
}

impl Scraper {
    /// Scrapes `database` with the given collectors (named twice counts once) and `api`, if any,
    /// for at most `limit` a time, and adds `own_metrics`: those of the exporter's process, which
    /// outlive a scrape.
    pub fn new(
        database: Database,
        mut collectors: Vec<CollectorName>,
        api: Option<(Client, BaseUrl)>,
        limit: Duration,
        own_metrics: Registry,
    ) -> Result<Self, prometheus::Error> {
        collectors.sort_unstable();
        collectors.dedup();
        let build_info = IntGaugeVec::new(
            Opts::new(
                "shop_exporter_build_info",
                "Always 1; the label tells the exporter's version.",
            ),
            &["version"],
        )?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        own_metrics.register(Box::new(build_info))?;
        Ok(Self {
            database,
            collectors,
            api,
            limit,
            own_metrics,
        })
    }

    /// Reads everything anew and returns it in Prometheus' text format, in time and whatever state
    /// the database is in. `timeout_header` is the value of `X-Prometheus-Scrape-Timeout-Seconds`.
    pub async fn scrape(&self, timeout_header: Option<&str>) -> Result<String, prometheus::Error> {
        let deadline = Instant::now() + time_allowed(self.limit, timeout_header);
        let registry = Registry::new();
        let outcome = Outcome::registered_in(&registry)?;

        // Side by side: waiting for a locked database must not cost the API its time.
        tokio::join!(
            self.read_database(deadline, &registry, &outcome),
            self.ask_api(deadline, &registry, &outcome),
        );

        let encoder = TextEncoder::new();
        let mut text = encoder.encode_to_string(&registry.gather())?;
        encoder.encode_utf8(&self.own_metrics.gather(), &mut text)?;
        Ok(text)
    }

    async fn read_database(&self, deadline: Instant, registry: &Registry, outcome: &Outcome) {
        match self.database.snapshot(deadline).await {
            Ok(mut shop) => {
                let mut read_any = false;
                for (done, &name) in self.collectors.iter().enumerate() {
                    // An equal share of the time left, so that a slow collector cannot use up
                    // that of those after it.
                    let waiting = u32::try_from(self.collectors.len() - done)
                        .expect("there are a handful of collectors");
                    let now = Instant::now();
                    let share = deadline.saturating_duration_since(now) / waiting;
                    let result = collect(name.collector(), &mut *shop, registry, now + share).await;
                    outcome.report(name.label(), &result, now.elapsed());
                    read_any |= result.is_ok();
                }
                // One that opens and then answers nothing is as good as down.
                outcome.up.set(i64::from(read_any));
            }
            Err(error) => {
                outcome.up.set(0);
                tracing::warn!(db.namespace = %self.database, error.message = %error, "the shop's database cannot be read");
                for name in &self.collectors {
                    outcome.success.with_label_values(&[name.label()]).set(0);
                    outcome.duration.with_label_values(&[name.label()]).set(0.0);
                }
            }
        }
    }

    async fn ask_api(&self, deadline: Instant, registry: &Registry, outcome: &Outcome) {
        let Some((client, base)) = &self.api else {
            return;
        };
        let started = Instant::now();
        let mut api = Api::until(deadline, client.clone(), base.clone());
        let result = collect(&ApiStatus, &mut api, registry, deadline).await;
        outcome.report(ApiStatus::LABEL, &result, started.elapsed());
    }
}

/// Runs one collector and registers what it found.
async fn collect<S: Source + ?Sized>(
    collector: &dyn Collector<S>,
    source: &mut S,
    registry: &Registry,
    deadline: Instant,
) -> Result<(), ReadError> {
    let metrics = within(deadline, async {
        source.allow_until(deadline).await?;
        collector.collect(source).await
    })
    .await?;
    for metric in metrics {
        registry.register(metric)?;
    }
    Ok(())
}

impl Outcome {
    fn registered_in(registry: &Registry) -> Result<Self, prometheus::Error> {
        let up = IntGauge::new(
            "shop_up",
            "1 when the shop's database could be opened and read at this scrape, otherwise 0.",
        )?;
        let success = IntGaugeVec::new(
            Opts::new(
                "shop_collector_success",
                "1 when the collector could read all its figures at this scrape, otherwise 0.",
            ),
            &["collector"],
        )?;
        let duration = GaugeVec::new(
            Opts::new(
                "shop_collector_duration_seconds",
                "Seconds the collector took at this scrape, 0 when the database could not be opened.",
            ),
            &["collector"],
        )?;
        registry.register(Box::new(up.clone()))?;
        registry.register(Box::new(success.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Self {
            up,
            success,
            duration,
        })
    }

    fn report(&self, label: &str, result: &Result<(), ReadError>, took: Duration) {
        if let Err(error) = result {
            tracing::warn!(collector = label, error.message = %error, "figures cannot be read");
        }
        self.success
            .with_label_values(&[label])
            .set(i64::from(result.is_ok()));
        self.duration
            .with_label_values(&[label])
            .set(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_shortens_a_scrape_and_never_lengthens_it() {
        let limit = Duration::from_secs(2);
        let millis = |header| time_allowed(limit, header).as_millis();
        for (header, expected) in [
            (None, 2000),
            (Some("10"), 2000),
            (Some("2.5"), 2000),
            (Some("2"), 1500),
            (Some("1"), 750),
            (Some("0.2"), 150),
        ] {
            assert_eq!(millis(header), expected, "{header:?}");
        }
        for nonsense in ["", "soon", "-1", "0", "NaN", "inf", "1e300"] {
            assert_eq!(millis(Some(nonsense)), 2000, "{nonsense:?}");
        }
    }

    #[test]
    fn timeouts_are_positive_and_bounded() {
        assert_eq!(parse_timeout("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "2", "0s", "-1s", "11m", "fast"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong:?}");
        }
    }
}
