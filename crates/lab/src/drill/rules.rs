//! What theory has to know of Prometheus' rules and Alertmanager's routes.

use anyhow::Context;
use serde::Deserialize;

use super::{
    clock::{INTERVAL, seconds},
    table::{Drill, How, Timing},
};

/// The alerts of a rule file.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) alerts: Vec<Alert>,
}

#[derive(Debug, Clone)]
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) severity: String,
    /// Seconds of its longest window.
    window: u64,
    /// Seconds of `for`.
    hold: u64,
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    hold: Option<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

impl Rules {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: RuleFile =
            serde_saphyr::from_str(text).context("the rules are not as Prometheus has them")?;
        let mut alerts = Vec::new();
        for rule in file.groups.into_iter().flat_map(|group| group.rules) {
            let Some(name) = rule.alert else { continue };
            // Brackets of a regular expression are no windows.
            let windows = rule.expr.split('[').skip(1);
            let windows = windows.filter_map(|part| seconds(part.split(']').next()?).ok());
            alerts.push(Alert {
                name,
                severity: rule.labels.get("severity").cloned().unwrap_or_default(),
                window: windows.max().unwrap_or(0),
                hold: rule.hold.as_deref().map_or(Ok(0), seconds)?,
            });
        }
        Ok(Self { alerts })
    }

    /// The alert of a row.
    pub(super) fn of(&self, drill: &Drill) -> Option<&Alert> {
        self.alerts.iter().find(|alert| {
            alert.name == drill.alert && drill.severity.is_none_or(|it| it == alert.severity)
        })
    }
}

/// How long Alertmanager gathers alerts, by severity.
#[derive(Debug)]
pub(super) struct Routes {
    root: Route,
}

#[derive(Debug, Deserialize)]
struct Config {
    route: Route,
}

#[derive(Debug, Deserialize)]
struct Route {
    #[serde(default)]
    matchers: Vec<String>,
    group_wait: Option<String>,
    group_interval: Option<String>,
    #[serde(default)]
    routes: Vec<Route>,
}

impl Routes {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Config =
            serde_saphyr::from_str(text).context("the routes are not as Alertmanager has them")?;
        Ok(Self { root: config.route })
    }

    /// Seconds before the first message, and between two of one group.
    fn waits(&self, severity: &str) -> anyhow::Result<(u64, u64)> {
        let matcher = format!("severity=\"{severity}\"");
        let own = self
            .root
            .routes
            .iter()
            .find(|route| route.matchers.contains(&matcher) && route.group_wait.is_some());
        let of = |field: fn(&Route) -> Option<&String>| {
            own.and_then(field)
                .or_else(|| field(&self.root))
                .map_or(Ok(0), |time| seconds(time))
        };
        Ok((
            of(|route| route.group_wait.as_ref())?,
            of(|route| route.group_interval.as_ref())?,
        ))
    }
}

/// The latest moments that theory allows, in seconds from the fault, and from its end.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Theory {
    pub(super) pending: u64,
    pub(super) firing: u64,
    pub(super) active: u64,
    pub(super) notified: u64,
    pub(super) ended: u64,
    pub(super) resolved: u64,
}

impl Theory {
    /// A scrape and an evaluation until the fault is in the expression, the part of its window that has to be bad, `for`,
    /// Alertmanager's waiting.
    pub(super) fn of(drill: &Drill, alert: &Alert, routes: &Routes) -> anyhow::Result<Self> {
        let How::Provoked {
            timing:
                Timing {
                    rises,
                    falls,
                    shows_after,
                    lingers,
                    forgets,
                },
            ..
        } = drill.how
        else {
            anyhow::bail!("{} is not provoked", drill.name());
        };
        let (wait, interval) = routes.waits(&alert.severity)?;
        let seen = 2 * INTERVAL;
        let pending = shows_after + alert.window * rises / 100 + seen;
        // It is looked at every evaluation: `for` ends at one.
        let firing = pending + alert.hold.next_multiple_of(INTERVAL);
        let active = firing + 1;
        let ended = lingers + (alert.window * falls / 100).max(forgets) + seen;
        Ok(Self {
            pending,
            firing,
            active,
            notified: active + wait,
            ended,
            resolved: ended + interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::table::DRILLS;

    fn theory(rules: &str, routes: &str, name: &str) -> Theory {
        let drill = DRILLS.iter().find(|drill| drill.alert == name).unwrap();
        let rules = Rules::parse(rules).unwrap();
        Theory::of(
            drill,
            rules.of(drill).unwrap(),
            &Routes::parse(routes).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn theory_adds_up() {
        let rules = r#"
groups:
  - name: a
    rules:
      - alert: HighErrorRate
        expr: rate(a{status=~"[5].."}[5m]) > 0.05
        for: 5m
        labels: { severity: critical }
      - alert: NoTraffic
        expr: rate(a[5m]) == 0
        for: 7s
        labels: { severity: info }
"#;
        let routes = r#"
route:
  group_wait: 5s
  group_interval: 30s
  routes:
    - matchers: [severity="info"]
      group_wait: 15s
      group_interval: 5m
"#;
        let high = theory(rules, routes, "HighErrorRate");
        assert_eq!((high.pending, high.firing, high.notified), (25, 325, 331));
        assert_eq!((high.ended, high.resolved), (310, 340));
        // The whole window has to be empty, and one request ends it.
        let quiet = theory(rules, routes, "NoTraffic");
        assert_eq!(
            (quiet.pending, quiet.firing, quiet.notified),
            (310, 320, 336)
        );
        assert_eq!((quiet.ended, quiet.resolved), (10, 310));
    }
}
