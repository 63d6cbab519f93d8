//! What a request may be like, before anything of ours looks at it.
//!
//! Most of what is malformed the HTTP library refuses by itself, with 400, 408 or 431 and a closed
//! connection; such a request never gets here, and is neither counted nor logged. What is refused here is
//! counted by reason, and has no access line: whoever sends a million of them should not fill the log.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{
    Error, HttpMessage as _, HttpResponse, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{self, ServiceRequest, ServiceResponse},
    error::PayloadError,
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
};
use futures::{Stream, StreamExt as _, stream};
use governor::{
    Quota, RateLimiter, clock::MonotonicClock, middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};
use tokio::time::{Instant, timeout_at};

use crate::{Problem, red::Red};

/// Bytes of the request's target, path and query together.
const URI_LIMIT_BYTES: usize = 8 * 1024;
/// Bytes of all header names and values.
const HEADERS_LIMIT_BYTES: usize = 16 * 1024;
/// What a proxy that turns `_` into `-` takes for a header that frames the body.
const FRAMING_LOOKALIKES: [&str; 2] = ["content_length", "transfer_encoding"];

/// Limits of a server that can be set.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a body that is read as JSON.
    pub body_bytes: usize,
    /// Time for a request's head to arrive.
    pub head_time: Duration,
    /// Time for its body to arrive.
    pub body_time: Duration,
    /// Requests a second from one client, and as many at once after a pause; none for no limit.
    pub requests_per_second: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            head_time: Duration::from_secs(5),
            body_time: Duration::from_secs(10),
            requests_per_second: None,
        }
    }
}

/// Why a request is refused before it is looked at, as `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another server in front may have read it differently.
    Ambiguous,
    /// Its target or its headers are too large.
    TooLarge,
    /// Its client sends too many.
    RateLimited,
}

/// The middleware, outside of [`crate::observe`].
pub(crate) async fn guard<B: MessageBody + 'static>(
    gate: Arc<Gate>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if let Some((refusal, response)) = gate.refuse(&request) {
        gate.red.refused(refusal);
        let response = request.into_response(response);
        return Ok(response.map_into_right_body());
    }
    if has_body(request.headers()) {
        let payload = request.take_payload();
        let payload = in_time(payload, Instant::now() + gate.limits.body_time);
        request.set_payload(dev::Payload::Stream {
            payload: Box::pin(payload),
        });
    }
    Ok(next.call(request).await?.map_into_left_body())
}

type PerClient = RateLimiter<
    IpAddr,
    HashMapStateStore<IpAddr>,
    MonotonicClock,
    NoOpMiddleware<std::time::Instant>,
>;

/// A connection on which something ambiguous came: what stands behind it may be part of it, and has been
/// read already when the connection is told to close.
#[derive(Default)]
pub(crate) struct Distrust(AtomicBool);

/// Lets requests in; all threads share one.
pub(crate) struct Gate {
    limits: Limits,
    red: Red,
    per_client: Option<PerClient>,
}

impl Gate {
    pub(crate) fn new(limits: Limits, red: Red) -> Self {
        let per_client = limits.requests_per_second.map(|limit| {
            RateLimiter::new(
                Quota::per_second(limit),
                HashMapStateStore::default(),
                MonotonicClock,
            )
        });
        Self {
            limits,
            red,
            per_client,
        }
    }

    /// Forgets clients that have not been heard of for a while, every minute.
    pub(crate) async fn forget(self: Arc<Self>) {
        let Some(per_client) = &self.per_client else {
            return;
        };
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        loop {
            minutes.tick().await;
            per_client.retain_recent();
            per_client.shrink_to_fit();
        }
    }

    /// What to answer to a request that is not let in.
    fn refuse(&self, request: &ServiceRequest) -> Option<(Refusal, HttpResponse)> {
        let refuse = |refusal, problem: Problem| {
            let mut response = problem.error_response();
            if refusal != Refusal::RateLimited {
                // What comes behind it on this connection may not be what it seems.
                response
                    .head_mut()
                    .set_connection_type(actix_web::http::ConnectionType::Close);
            }
            Some((refusal, response))
        };
        let headers = request.headers();
        let distrust = request.conn_data::<Distrust>();
        let ambiguous = distrust.is_some_and(|distrust| distrust.0.load(Ordering::Relaxed))
            || FRAMING_LOOKALIKES.iter().any(|name| headers.contains_key(*name))
            // Nothing here is switched to or tunnelled, but a proxy may believe it is.
            || headers.contains_key(header::UPGRADE)
            || request.method() == Method::CONNECT;
        if ambiguous {
            if let Some(distrust) = distrust {
                distrust.0.store(true, Ordering::Relaxed);
            }
            let problem = Problem::new(StatusCode::BAD_REQUEST)
                .kind("ambiguous-request")
                .detail("this service upgrades and tunnels nothing, and takes no header that looks like another one");
            return refuse(Refusal::Ambiguous, problem);
        }
        if uri_bytes(request) > URI_LIMIT_BYTES {
            let problem = Problem::new(StatusCode::URI_TOO_LONG)
                .detail(format!("the target is longer than {URI_LIMIT_BYTES} bytes"));
            return refuse(Refusal::TooLarge, problem);
        }
        let header_bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if header_bytes > HEADERS_LIMIT_BYTES {
            let problem = Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).detail(
                format!("the headers are larger than {HEADERS_LIMIT_BYTES} bytes"),
            );
            return refuse(Refusal::TooLarge, problem);
        }
        if let (Some(per_client), Some(peer)) = (&self.per_client, request.peer_addr())
            && let Err(not_until) = per_client.check_key(&client(peer.ip()))
        {
            let wait = not_until.wait_time_from(std::time::Instant::now());
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS)
                .kind("rate-limited")
                .detail("too many requests from this client")
                .header(
                    header::RETRY_AFTER,
                    HeaderValue::from(wait.as_secs_f64().ceil().max(1.0) as u64),
                );
            return refuse(Refusal::RateLimited, problem);
        }
        None
    }
}

fn uri_bytes(request: &ServiceRequest) -> usize {
    let uri = request.uri();
    uri.path_and_query()
        .map_or(0, |target| target.as_str().len())
        + uri
            .authority()
            .map_or(0, |authority| authority.as_str().len())
}

/// One client; of IPv6 a whole /64, which is what one customer gets.
fn client(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        },
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length != "0")
}

/// A body that fails once it is late.
fn in_time(
    payload: dev::Payload,
    deadline: Instant,
) -> impl Stream<Item = Result<actix_web::web::Bytes, PayloadError>> {
    stream::unfold(Some(payload), move |payload| async move {
        let mut payload = payload?;
        match timeout_at(deadline, payload.next()).await {
            Ok(part) => Some((part?, Some(payload))),
            Err(_) => {
                let late = io::Error::from(io::ErrorKind::TimedOut);
                Some((Err(PayloadError::Io(late)), None))
            }
        }
    })
}

/// Headers that tell browsers what not to do with a response; those it has already stay.
pub(crate) fn secure(headers: &mut HeaderMap, is_tls: bool) {
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let mut set = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::X_FRAME_OPTIONS, "DENY");
    if is_tls {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if is_page {
        // Whatever a page of ours needs comes from this service.
        set(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
        );
    } else {
        set(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        );
        set(header::CACHE_CONTROL, "no-store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let same = |a: &str, b: &str| client(a.parse().unwrap()) == client(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
