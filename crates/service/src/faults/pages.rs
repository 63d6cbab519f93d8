//! `/chaos` on the admin port.
//!
//! | Request | |
//! |---|---|
//! | `GET /chaos` | every fault with its parameters, and what is active |
//! | `POST /chaos/{fault}` | starts it; the body, which may be absent, is a JSON object of parameters |
//! | `DELETE /chaos/{fault}`, `DELETE /chaos` | stops it, or all |
//!
//! Each needs `Authorization: Bearer TOKEN`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{About, Active, Fault, Faults, Mistake, Settings};
use crate::Problem;

pub(crate) fn pages(faults: Faults) -> impl FnOnce(&mut web::ServiceConfig) {
    |pages| {
        pages
            .app_data(web::Data::new(faults))
            .service(web::resource("/chaos").get(list).delete(stop_all))
            .service(web::resource("/chaos/{fault}").post(start).delete(stop));
    }
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    about: &'static About,
    active: Option<Running>,
}

#[derive(Serialize)]
struct Running {
    settings: Settings,
    started_at: String,
    ends_at: String,
    seconds_left: f64,
}

impl From<&Active> for Running {
    fn from(active: &Active) -> Self {
        Self {
            settings: active.settings().clone(),
            started_at: format!("{:.3}", active.started_at()),
            ends_at: format!("{:.3}", Timestamp::now() + active.left()),
            seconds_left: (active.left().as_secs_f64() * 10.0).round() / 10.0,
        }
    }
}

async fn list(faults: web::Data<Faults>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    allow(&faults, &request)?;
    let rows: Vec<_> = faults
        .offered()
        .map(|fault| Row {
            about: fault.about(),
            active: faults.active(fault).as_deref().map(Running::from),
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "faults": rows })))
}

async fn start(
    faults: web::Data<Faults>,
    request: HttpRequest,
    name: web::Path<String>,
    body: web::Bytes,
) -> Result<HttpResponse, Problem> {
    allow(&faults, &request)?;
    let fault = find(&faults, &name)?;
    let given = parameters(&body)?;
    let given = given
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    let settings = Settings::read(fault, given).map_err(invalid)?;
    faults.check(fault, &settings).map_err(invalid)?;
    let active = faults.start(fault, settings)?;
    Ok(HttpResponse::Created().json(json!({
        "fault": fault,
        "active": Running::from(&*active),
    })))
}

async fn stop(
    faults: web::Data<Faults>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    allow(&faults, &request)?;
    let fault = find(&faults, &name)?;
    Ok(stopped(&faults, [fault]))
}

async fn stop_all(
    faults: web::Data<Faults>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    allow(&faults, &request)?;
    Ok(stopped(&faults, Fault::ALL))
}

fn stopped(faults: &Faults, which: impl IntoIterator<Item = Fault>) -> HttpResponse {
    let stopped: Vec<_> = which
        .into_iter()
        .filter(|fault| faults.stop(*fault))
        .collect();
    HttpResponse::Ok().json(json!({ "stopped": stopped }))
}

impl Faults {
    /// Lets whoever shows the token go on, for further pages that change how a service behaves.
    ///
    /// # Errors
    /// 404 without a token file, 401 without its token.
    pub fn authorize(&self, request: &HttpRequest) -> Result<(), Problem> {
        allow(self, request)
    }
}

/// Who knows the token may go on.
fn allow(faults: &Faults, request: &HttpRequest) -> Result<(), Problem> {
    let Some(inner) = faults.inner() else {
        return Err(Problem::new(StatusCode::NOT_FOUND).detail(
            "faults are off; start the service with --chaos-token-file (CHAOS_TOKEN_FILE) to have them",
        ));
    };
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| bearer(value.as_bytes()));
    if shown.is_some_and(|shown| inner.token.is(shown)) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNAUTHORIZED)
        .detail("Authorization has to be Bearer and the token of --chaos-token-file")
        .header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(r#"Bearer realm="chaos""#),
        ))
}

/// What stands behind `Bearer`, whose letters' case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, shown) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| shown.trim_ascii())
}

fn find(faults: &Faults, name: &str) -> Result<Fault, Problem> {
    let found = faults.offered().find(|fault| fault.about().name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = faults.offered().map(|fault| fault.about().name).collect();
        Problem::new(StatusCode::NOT_FOUND)
            .kind("unknown-fault")
            .detail(format!("this service has the faults {}", names.join(", ")))
    })
}

/// The members of a JSON object as text, which is how every parameter is read.
fn parameters(body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    let malformed = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST)
            .kind("invalid-fault")
            .detail(detail)
    };
    if body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let object: Map<String, Json> = serde_json::from_slice(body).map_err(|error| {
        malformed(format!(
            "the body has to be a JSON object of parameters: {error}"
        ))
    })?;
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    Ok(object
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect())
}

fn invalid(mistakes: Vec<Mistake>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .kind("invalid-fault")
        .title("The fault's parameters are not valid")
        .with("errors", mistakes)
}
