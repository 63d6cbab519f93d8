//! How payments behaves, which a person sets: at the start by flags, later at `/behaviour` of the admin
//! port.
//!
//! | Request | |
//! |---|---|
//! | `GET /behaviour` | how it behaves |
//! | `PATCH /behaviour` | changes what the body, a JSON object, gives |
//!
//! Each needs `Authorization: Bearer TOKEN` with the token of `--chaos-token-file`.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use service::{Faults, Problem, parse_duration};

/// Longer than any caller waits.
const LONGEST: Duration = Duration::from_secs(600);

/// What is set. The shares are of all payments, and add up to 1 at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Behaviour {
    /// Typical time a payment takes; each takes between half and one and a half of it.
    #[serde(rename = "latency_seconds", serialize_with = "seconds")]
    pub latency: Duration,
    /// Largest amount that is approved, in cents.
    pub decline_over_cents: i64,
    /// Share that is declined, whatever the amount.
    pub decline_share: f64,
    /// Share that fails with 503, without having been taken.
    pub fail_share: f64,
    /// Share that is taken, and then answered with 504: what a retry must not take again.
    pub lose_share: f64,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// What happens to one payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Decided,
    Declined,
    Failed,
    Lost,
}

impl Behaviour {
    /// Everything wrong with it, for a person.
    ///
    /// # Errors
    /// One text for each mistake.
    pub fn check(&self) -> Result<(), Vec<Mistake>> {
        let shares = [
            ("decline_share", self.decline_share),
            ("fail_share", self.fail_share),
            ("lose_share", self.lose_share),
        ];
        let mut mistakes: Vec<Mistake> = shares
            .into_iter()
            .filter(|(_, share)| !(0.0..=1.0).contains(share))
            .map(|(field, _)| Mistake::new(field, "has to be a number from 0 to 1"))
            .collect();
        if mistakes.is_empty() && shares.iter().map(|(_, share)| share).sum::<f64>() > 1.0 {
            let reason = "with fail_share and lose_share is more than 1";
            mistakes.push(Mistake::new("decline_share", reason));
        }
        if self.decline_over_cents < 0 {
            mistakes.push(Mistake::new("decline_over_cents", "has to be 0 or more"));
        }
        if self.latency > LONGEST {
            let reason = format!("has to be {LONGEST:?} at most");
            mistakes.push(Mistake::new("latency", reason));
        }
        match mistakes.is_empty() {
            true => Ok(()),
            false => Err(mistakes),
        }
    }

    /// What happens to a payment that drew `lot`, a number from 0 up to 1.
    pub(crate) fn fate(&self, lot: f64) -> Fate {
        let fails = self.fail_share;
        let lost = fails + self.lose_share;
        match lot {
            lot if lot < fails => Fate::Failed,
            lot if lot < lost => Fate::Lost,
            lot if lot < lost + self.decline_share => Fate::Declined,
            _ => Fate::Decided,
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Which one.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Mistake {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field,
            message: message.into(),
        }
    }
}

/// The behaviour in force; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Switch(Arc<RwLock<Behaviour>>);

impl Switch {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self(Arc::new(RwLock::new(behaviour)))
    }

    pub(crate) fn get(&self) -> Behaviour {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is given, or nothing at all.
    fn change(&self, change: &Change) -> Result<Behaviour, Vec<Mistake>> {
        let mut behaviour = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = *behaviour;
        let mut mistakes = Vec::new();
        if let Some(latency) = &change.latency {
            match parse_duration(latency) {
                Ok(latency) => changed.latency = latency,
                Err(reason) => mistakes.push(Mistake::new("latency", reason)),
            }
        }
        let Change {
            latency: _,
            decline_over_cents,
            decline_share,
            fail_share,
            lose_share,
        } = *change;
        changed.decline_over_cents = decline_over_cents.unwrap_or(changed.decline_over_cents);
        changed.decline_share = decline_share.unwrap_or(changed.decline_share);
        changed.fail_share = fail_share.unwrap_or(changed.fail_share);
        changed.lose_share = lose_share.unwrap_or(changed.lose_share);
        mistakes.extend(changed.check().err().into_iter().flatten());
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        *behaviour = changed;
        Ok(changed)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Text such as `400ms`.
    latency: Option<String>,
    decline_over_cents: Option<i64>,
    decline_share: Option<f64>,
    fail_share: Option<f64>,
    lose_share: Option<f64>,
}

/// The admin page.
pub(crate) fn pages(switch: Switch, faults: Faults) -> impl Fn(&mut web::ServiceConfig) {
    move |pages| {
        pages
            .app_data(service::json_config(4096))
            .app_data(web::Data::new(switch.clone()))
            .app_data(web::Data::new(faults.clone()))
            .service(web::resource("/behaviour").get(get).patch(change));
    }
}

async fn get(
    switch: web::Data<Switch>,
    faults: web::Data<Faults>,
    request: HttpRequest,
) -> Result<web::Json<Behaviour>, Problem> {
    faults.authorize(&request)?;
    Ok(web::Json(switch.get()))
}

async fn change(
    switch: web::Data<Switch>,
    faults: web::Data<Faults>,
    request: HttpRequest,
    change: Result<web::Json<Change>, actix_web::Error>,
) -> Result<web::Json<Behaviour>, actix_web::Error> {
    // Before a word about the body.
    faults.authorize(&request)?;
    let web::Json(change) = change?;
    let behaviour = switch.change(&change).map_err(|mistakes| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
            .kind("invalid-behaviour")
            .title("The behaviour is not valid")
            .with("errors", mistakes)
    })?;
    tracing::warn!(?behaviour, "behaviour changed");
    Ok(web::Json(behaviour))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHAVIOUR: Behaviour = Behaviour {
        latency: Duration::ZERO,
        decline_over_cents: 100,
        decline_share: 0.3,
        fail_share: 0.1,
        lose_share: 0.2,
    };

    #[test]
    fn each_share_is_drawn_as_often_as_it_says() {
        let lots = (0..1000).map(|n| f64::from(n) / 1000.0);
        let fates: Vec<Fate> = lots.map(|lot| BEHAVIOUR.fate(lot)).collect();
        for (fate, times) in [
            (Fate::Failed, 100),
            (Fate::Lost, 200),
            (Fate::Declined, 300),
            (Fate::Decided, 400),
        ] {
            let drawn = fates.iter().filter(|drawn| **drawn == fate).count();
            // One more or less: 0.1 + 0.2 is not quite 0.3.
            assert!(drawn.abs_diff(times) <= 1, "{fate:?} {drawn}");
        }
        let never = Behaviour {
            decline_share: 0.0,
            fail_share: 0.0,
            lose_share: 0.0,
            ..BEHAVIOUR
        };
        assert_eq!(never.fate(0.0), Fate::Decided);
        let always = Behaviour {
            fail_share: 1.0,
            ..never
        };
        assert_eq!(always.fate(0.999_999_999), Fate::Failed);
    }

    #[test]
    fn every_mistake_is_named_and_nothing_changed() {
        let switch = Switch::new(BEHAVIOUR);
        let change = Change {
            latency: Some("soon".into()),
            decline_over_cents: Some(-1),
            decline_share: Some(f64::NAN),
            fail_share: Some(0.0),
            lose_share: Some(1.1),
        };
        let fields: Vec<_> = switch
            .change(&change)
            .expect_err("wrong")
            .into_iter()
            .map(|mistake| mistake.field)
            .collect();
        assert_eq!(
            fields,
            [
                "latency",
                "decline_share",
                "lose_share",
                "decline_over_cents"
            ]
        );
        assert_eq!(switch.get(), BEHAVIOUR);
    }
}
