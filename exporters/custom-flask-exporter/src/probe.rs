//! `/probe?target=`: a customer's way through the shop, walked once.
//!
//! It orders one unit of a product and calls the order off. Only the APIs named at the start are
//! talked to, whatever a request asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::api::{self, Api, ApiError, BaseUrl, Order};
use crate::scrape::time_allowed;

/// Probes under way at a time: each places an order, and Prometheus asks for a target one by one.
const AT_A_TIME: usize = 2;

/// Of the time left, what placing the order may take. The rest is for calling it off.
const SHARE_OF_PLACING: f32 = 0.6;

/// Walks through the APIs it is allowed to.
pub struct Prober {
    client: Client,
    allowed: Vec<BaseUrl>,
    product_id: i64,
    limit: Duration,
    under_way: Arc<Semaphore>,
}

/// Why nothing was probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a base URL at all.
    #[error("target: {0}")]
    Invalid(#[from] api::BaseUrlError),
    /// Not one of those named at the start.
    #[error("this target is not one of those given with --probe.allow")]
    Forbidden,
    /// Too many already.
    #[error("{AT_A_TIME} probes are under way: try again when they have ended")]
    Busy,
}

/// What a probe found.
#[derive(Debug)]
struct Walk {
    placing: Step,
    cancelling: Option<Step>,
    took: Duration,
}

/// One request and what came of it.
#[derive(Debug)]
struct Step {
    success: bool,
    status: Option<StatusCode>,
    took: Duration,
}

impl Prober {
    /// Probes with orders of `product_id`, for at most `limit` a time.
    pub fn new(client: Client, allowed: Vec<BaseUrl>, product_id: i64, limit: Duration) -> Self {
        Self {
            client,
            allowed,
            product_id,
            limit,
            under_way: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// The APIs that may be probed.
    pub fn allowed(&self) -> &[BaseUrl] {
        &self.allowed
    }

    /// Checks what is asked for and that there is room for it.
    pub fn admit(self: Arc<Self>, target: &str) -> Result<Admitted, Refusal> {
        let target: BaseUrl = target.parse()?;
        if !self.allowed.contains(&target) {
            return Err(Refusal::Forbidden);
        }
        let place = Arc::clone(&self.under_way)
            .try_acquire_owned()
            .map_err(|_| Refusal::Busy)?;
        Ok(Admitted {
            prober: self,
            target,
            _place: place,
        })
    }
}

/// A probe that may be made.
pub struct Admitted {
    prober: Arc<Prober>,
    target: BaseUrl,
    _place: OwnedSemaphorePermit,
}

impl Admitted {
    /// Places an order and calls it off; what came of it in Prometheus' text format, in time.
    /// `timeout_header` is the value of `X-Prometheus-Scrape-Timeout-Seconds`.
    pub async fn run(self, timeout_header: Option<String>) -> Result<String, prometheus::Error> {
        let allowed = time_allowed(self.prober.limit, timeout_header.as_deref());
        self.walk(allowed).await.encode()
    }

    async fn walk(&self, allowed: Duration) -> Walk {
        let started = Instant::now();
        let until = |share: f32| {
            let deadline = started + allowed.mul_f32(share);
            Api::until(deadline, self.prober.client.clone(), self.target.clone())
        };
        let key = format!("probe-{}", Uuid::new_v4());

        let placed = until(SHARE_OF_PLACING)
            .place_order(self.prober.product_id, &key)
            .await;
        let unknown = placed.is_err();
        let (placing, mut order) =
            Step::of(started, placed, StatusCode::CREATED, "paid", "place").await;
        let rest = until(1.0);
        if unknown {
            // It may stand all the same, answer or none. With its key, the same order comes back.
            order = match rest.place_order(self.prober.product_id, &key).await {
                Ok(response) => api::decode(response, StatusCode::CREATED).await.ok(),
                Err(_) => None,
            };
        }

        let cancelling = match order {
            // A failed order has given its stock back by itself.
            Some(order) if order.status != "failed" => {
                let asked = Instant::now();
                let cancelled = rest.cancel_order(order.id).await;
                let (step, _) =
                    Step::of(asked, cancelled, StatusCode::OK, "cancelled", "cancel").await;
                Some(step)
            }
            _ => None,
        };
        Walk {
            placing,
            cancelling,
            took: started.elapsed(),
        }
    }
}

impl Step {
    /// Judges an answer, which is to have a status and to show the order in a state.
    async fn of(
        started: Instant,
        answer: Result<Response, ApiError>,
        wanted: StatusCode,
        state: &str,
        step: &'static str,
    ) -> (Self, Option<Order>) {
        let status = answer.as_ref().ok().map(Response::status);
        let order: Result<Order, ApiError> = match answer {
            Ok(response) => api::decode(response, wanted).await,
            Err(error) => Err(error),
        };
        let success = match &order {
            Ok(order) if order.status == state => true,
            Ok(order) => {
                tracing::warn!(
                    step,
                    order.id,
                    order.status,
                    "the probe's order is not {state}"
                );
                false
            }
            Err(error) => {
                tracing::warn!(step, error.message = %error, "a step of the probe failed");
                false
            }
        };
        let took = started.elapsed();
        let judged = Self {
            success,
            status,
            took,
        };
        (judged, order.ok())
    }
}

impl Walk {
    fn encode(&self) -> Result<String, prometheus::Error> {
        let registry = Registry::new();
        let success = IntGauge::new(
            "probe_success",
            "1 when an order could be placed, was paid, and could be called off, otherwise 0.",
        )?;
        let duration = Gauge::new("probe_duration_seconds", "Seconds the probe took in all.")?;
        let code = IntGaugeVec::new(
            Opts::new(
                "probe_http_status_code",
                "HTTP status the step was answered with, 0 when it got no answer or was not made.",
            ),
            &["step"],
        )?;
        let steps = GaugeVec::new(
            Opts::new(
                "probe_step_duration_seconds",
                "Seconds the step took, 0 when it was not made.",
            ),
            &["step"],
        )?;
        registry.register(Box::new(success.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(code.clone()))?;
        registry.register(Box::new(steps.clone()))?;

        let cancelled = self.cancelling.as_ref().is_some_and(|step| step.success);
        success.set(i64::from(self.placing.success && cancelled));
        duration.set(self.took.as_secs_f64());
        for (name, step) in [
            ("place", Some(&self.placing)),
            ("cancel", self.cancelling.as_ref()),
        ] {
            let status = step.and_then(|step| step.status);
            code.with_label_values(&[name])
                .set(status.map_or(0, |status| status.as_u16().into()));
            steps
                .with_label_values(&[name])
                .set(step.map_or(0.0, |step| step.took.as_secs_f64()));
        }
        TextEncoder::new().encode_to_string(&registry.gather())
    }
}
