//! Row 5: an alert is provoked, fires, is told to whom it should be and to nobody else, once, and so is its end.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::{Timestamp, ToSpan as _};
use rand::RngExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    probe::eventually,
    rows::{Check, PATIENCE, Seen, array, text},
};
use crate::oncall::Rotation;

/// The fault that is set: a millisecond harms nobody.
const FAULT: &str = "latency";
/// It ends by itself should verify be killed.
const LONGEST: &str = "3m";
/// What Prometheus says of it.
const FAULT_ALERT: &str = "FaultActive";
/// What the dashboards of a real provider would show of verify's own page.
const PAGE: &str = "LabVerify";

/// A message must be for one of them, and each must have one.
struct Expected<'a> {
    alert: &'a str,
    service: &'a str,
    receivers: Vec<String>,
}

impl Check<'_> {
    /// Row 5: alerts reach people.
    pub(super) async fn alerts(&self) -> Seen {
        self.endpoints
            .need(&["prometheus", "alertmanager", "console", "payments"])?;
        let inbox = self.endpoints.inbox.as_deref().context(
            "the file of endpoints names no inbox, so nobody can tell what was received",
        )?;
        // Whoever has put real providers in is not to be paged by a test.
        let status = self.get_alertmanager("status").await?;
        let config = text(&status, "/config/original");
        let own = format!("pagerduty_url: {inbox}/");
        ensure!(
            config.contains(&own),
            "Alertmanager does not page this lab's inbox ({inbox}); verify sends nobody else a page"
        );
        let (fault, page) = tokio::try_join!(self.fault_is_told(inbox), self.page_is_told(inbox))?;
        Ok([fault, page].concat())
    }

    async fn get_alertmanager(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}/api/v2/{path}", self.endpoints.alertmanager);
        self.probe.get(&url, &[]).await
    }

    /// From a fault over Prometheus and Alertmanager to a mailbox.
    async fn fault_is_told(&self, inbox: &str) -> Seen {
        let admin = self.endpoints.payments_admin.as_deref();
        let (admin, file) = admin.zip(self.endpoints.chaos_token_file.as_deref()).context(
            "the file of endpoints does not name payments_admin and chaos_token_file, so no fault can be set",
        )?;
        let token = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let (token, url) = (token.trim(), format!("{admin}/chaos/{FAULT}"));
        let before = self.last_message(inbox).await?;
        ensure!(
            self.active(FAULT_ALERT, "payments").await?.is_none(),
            "a fault is active in payments already; `lab chaos stop` ends it"
        );
        let settings = json!({ "delay": "1ms", "for": LONGEST });
        self.probe
            .send(Method::POST, &url, Some(token), Some(&settings))
            .await?;
        let seen = self.fires(before, inbox).await;
        // Whatever was seen: it is not left behind.
        let stopped = self
            .probe
            .send(Method::DELETE, &url, Some(token), None)
            .await;
        let mut evidence = seen?;
        stopped?;
        let expected = Expected {
            alert: FAULT_ALERT,
            service: "payments",
            receivers: vec!["email-shop".into()],
        };
        evidence.push(self.told(inbox, before, &expected, "resolved").await?);
        self.told(inbox, before, &expected, "firing").await?;
        Ok(evidence)
    }

    async fn fires(&self, before: u64, inbox: &str) -> Seen {
        let url = format!("{}/api/v1/query", self.endpoints.prometheus);
        let query = format!(
            "ALERTS{{alertname=\"{FAULT_ALERT}\", service=\"payments\", alertstate=\"firing\"}}"
        );
        eventually(PATIENCE, async || {
            let answer = self.probe.get(&url, &[("query", &query)]).await?;
            ensure!(
                !array(&answer["data"]["result"]).is_empty(),
                "a fault is active in payments, and {FAULT_ALERT} does not fire in Prometheus"
            );
            Ok(())
        })
        .await?;
        let since = eventually(PATIENCE, async || {
            self.active(FAULT_ALERT, "payments")
                .await?
                .with_context(|| {
                    format!("{FAULT_ALERT} fires in Prometheus and is not active in Alertmanager")
                })
        })
        .await?;
        let expected = Expected {
            alert: FAULT_ALERT,
            service: "payments",
            receivers: vec!["email-shop".into()],
        };
        Ok(vec![
            format!("fault {FAULT} in payments: {FAULT_ALERT} fires in Prometheus"),
            format!("it is active in Alertmanager since {since}"),
            self.told(inbox, before, &expected, "firing").await?,
        ])
    }

    /// An alert that nothing has to be broken for, as severe as they get: to the team's channel and to whoever is on call.
    async fn page_is_told(&self, inbox: &str) -> Seen {
        let on_call = Rotation::read(self.layout)?.receiver(Timestamp::now())?;
        let service = format!("lab-verify-{:08x}", rand::rng().random::<u32>());
        let before = self.last_message(inbox).await?;
        let alert = |ends: Timestamp| {
            json!([{
                "labels": { "alertname": PAGE, "severity": "critical", "team": "shop", "service": service },
                "annotations": {
                    "summary": "lab verify looks whether pages arrive",
                    "description": "Nothing is wrong; it ends within a minute.",
                    "runbook_url": "docs/alerting.md",
                },
                "endsAt": ends,
            }])
        };
        let url = format!("{}/api/v2/alerts", self.endpoints.alertmanager);
        let now = Timestamp::now();
        self.probe
            .send(Method::POST, &url, None, Some(&alert(now + 3.minutes())))
            .await?;
        let expected = Expected {
            alert: PAGE,
            service: &service,
            receivers: vec![on_call, "slack-shop".into()],
        };
        let firing = self.told(inbox, before, &expected, "firing").await;
        self.probe
            .send(Method::POST, &url, None, Some(&alert(Timestamp::now())))
            .await?;
        let firing = firing?;
        let resolved = self.told(inbox, before, &expected, "resolved").await?;
        self.told(inbox, before, &expected, "firing").await?;
        Ok(vec![firing, resolved])
    }

    /// Since when an alert is active in Alertmanager.
    async fn active(&self, name: &str, service: &str) -> anyhow::Result<Option<String>> {
        let alerts = self.get_alertmanager("alerts?active=true").await?;
        let alert = array(&alerts).iter().find(|alert| {
            text(alert, "/labels/alertname") == name && text(alert, "/labels/service") == service
        });
        Ok(alert.map(|alert| text(alert, "/startsAt").to_owned()))
    }

    async fn last_message(&self, inbox: &str) -> anyhow::Result<u64> {
        let messages = self.messages(inbox, 0).await?;
        Ok(messages
            .iter()
            .filter_map(|it| it["id"].as_u64())
            .max()
            .unwrap_or(0))
    }

    async fn messages(&self, inbox: &str, after: u64) -> anyhow::Result<Vec<Value>> {
        let url = format!("{inbox}/inbox/api/messages");
        let answer = self
            .probe
            .get(&url, &[("after", &after.to_string())])
            .await?;
        Ok(array(&answer["messages"]).to_vec())
    }

    /// That exactly those were told who should be, once each.
    async fn told(
        &self,
        inbox: &str,
        after: u64,
        expected: &Expected<'_>,
        status: &str,
    ) -> anyhow::Result<String> {
        let Expected {
            alert,
            service,
            receivers,
        } = expected;
        eventually(PATIENCE + Duration::from_secs(30), async || {
            let messages = self.messages(inbox, after).await?;
            let told: Vec<&Value> = messages
                .iter()
                .filter(|it| {
                    it["status"] == status && array(&it["alerts"]).iter().any(|it| it == alert)
                })
                .filter(|it| it["payload"].to_string().contains(service))
                .collect();
            for message in &told {
                let receiver = text(message, "/receiver");
                ensure!(
                    receivers.iter().any(|it| it == receiver),
                    "{alert} ({status}) went to {receiver}, who is not to be told"
                );
            }
            for receiver in receivers {
                match told
                    .iter()
                    .filter(|it| text(it, "/receiver") == receiver)
                    .count()
                {
                    0 => bail!("{receiver} was not told of {alert} ({status})"),
                    1 => {}
                    more => bail!("{receiver} was told {more} times of {alert} ({status})"),
                }
            }
            Ok(format!(
                "{alert} ({status}): told once each to {}",
                receivers.join(", ")
            ))
        })
        .await
    }
}
