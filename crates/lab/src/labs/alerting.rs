//! Lab 6: an alert of the learner's own, from a rule that is tested to somebody who is told, and then left in peace.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::grader::{Graded, Grader, Seen, graded};

/// The learner's rule, and its unit test.
const RULES: &str = "rules.yml";
const TEST: &str = "rules_test.yml";
/// The way that a severity reaches somebody first, by alertmanager/alertmanager.yml.
const CHANNELS: [(&str, &str); 3] = [
    ("critical", "pagerduty"),
    ("warning", "slack"),
    ("info", "email"),
];
/// Those who look after something there.
const TEAMS: [&str; 2] = ["shop", "platform"];
/// The longest silence that nobody forgets.
const SILENCE: SignedDuration = SignedDuration::from_hours(2);

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "An alert that says what is wrong, for whom, and what to do",
            "one alert in rules.yml; prometheus/alerts.yml has others to look at, and its head says what each of them has",
            it.alert_is_written().await,
        ),
        graded(
            "It is tested: silent when all is well, loud when it is not, and never at once",
            "three times in rules_test.yml: before the trouble, soon after it began, and once it has lasted as long as `for` says",
            it.is_tested().await,
        ),
        graded(
            "A Prometheus of your own looks at it and knows whom to tell",
            "start ./prometheus on another port than the lab's; its pages /rules and /status say what it has read",
            it.is_loaded().await,
        ),
        graded(
            "Somebody was told, and told of the end",
            "start the fault, wait until the alert fires, then stop it; `lab inbox --alert NAME` shows both messages",
            it.is_told().await,
        ),
        graded(
            "It was silenced, on purpose and for a time",
            "a silence whose matchers hold for this alert alone, with a comment that says why, of two hours at most",
            it.is_silenced().await,
        ),
    ]
}

type Labels = BTreeMap<String, String>;

/// The only alert of a file of rules.
#[derive(Debug)]
struct Alert {
    name: String,
    hold: String,
    labels: Labels,
    annotations: Labels,
}

fn rules_of(file: &mut Value) -> impl Iterator<Item = &mut Value> {
    let groups = file["groups"].as_array_mut().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array_mut().into_iter().flatten())
}

fn words(of: &Value) -> Labels {
    let words = of.as_object().into_iter().flatten();
    let words = words.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
    words.collect()
}

impl Alert {
    fn of(mut file: Value) -> anyhow::Result<Self> {
        let mut alerts = rules_of(&mut file).filter(|rule| rule["alert"].is_string());
        let alert = alerts.next().context("there is no alert")?;
        ensure!(alerts.next().is_none(), "there is more than one alert");
        let text = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            name: text("alert"),
            hold: text("for"),
            labels: words(&alert["labels"]),
            annotations: words(&alert["annotations"]),
        })
    }

    fn label(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.labels.get(name).map(String::as_str);
        value.with_context(|| format!("{} has no label `{name}`", self.name))
    }

    fn annotation(&self, name: &str) -> anyhow::Result<&str> {
        let text = self.annotations.get(name).map(|it| it.trim());
        let text = text.filter(|it| !it.is_empty());
        text.with_context(|| format!("{} has no annotation `{name}`", self.name))
    }

    /// How whoever is told first learns of it.
    fn channel(&self) -> anyhow::Result<&'static str> {
        let severity = self.label("severity")?;
        let channel = CHANNELS.iter().find(|(name, _)| *name == severity);
        let (_, channel) =
            channel.with_context(|| format!("nobody is told of severity {severity}"))?;
        Ok(channel)
    }

    /// Complete, as somebody needs it who is woken by it.
    fn is_complete(&self, project: &Path) -> anyhow::Result<()> {
        let waits = self.hold.bytes().any(|it| (b'1'..=b'9').contains(&it));
        ensure!(
            waits,
            "{} has no `for`: a single bad moment wakes somebody",
            self.name
        );
        self.channel()?;
        let team = self.label("team")?;
        ensure!(
            TEAMS.contains(&team),
            "alertmanager.yml knows no team {team}"
        );
        self.annotation("summary")?;
        let description = self.annotation("description")?;
        ensure!(
            description.contains("{{") && description.contains("$value"),
            "the description does not say how bad it is: $value is missing"
        );
        let runbook = self.annotation("runbook_url")?;
        let file = runbook.split('#').next().unwrap_or_default();
        ensure!(
            runbook.starts_with("http") || project.join(file).is_file(),
            "runbook_url {runbook} leads nowhere: there is no file {file}"
        );
        Ok(())
    }
}

/// The learner's rules, made wrong; a test of them has to notice.
fn mutant(rules: &Value, change: impl Fn(&mut Value)) -> Value {
    let mut rules = rules.clone();
    for rule in rules_of(&mut rules).filter(|rule| rule["alert"].is_string()) {
        change(rule);
    }
    rules
}

/// Unit tests that look once each, at a time when an alert is said to be silent.
fn silent_looks(test: &Value, alert: &str) -> Vec<Value> {
    let stories = test["tests"].as_array().into_iter().flatten();
    let looks = stories.flat_map(|story| {
        let looks = story["alert_rule_test"].as_array().into_iter().flatten();
        let silent = looks.filter(|look| {
            let alerts = look["exp_alerts"].as_array();
            look["alertname"] == alert && alerts.is_none_or(Vec::is_empty)
        });
        silent.map(|look| {
            let mut story = story.clone();
            story["alert_rule_test"] = json!([look]);
            story["promql_expr_test"] = json!([]);
            let mut test = test.clone();
            test["tests"] = json!([story]);
            test
        })
    });
    looks.collect()
}

/// Whether a silence is about alerts with these labels, and no others of this name.
fn is_about(silence: &Value, alert: &Labels) -> bool {
    let matchers = silence["matchers"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let holds = matchers.iter().all(|it| {
        let name = it["name"].as_str().unwrap_or_default();
        let plain = it["isRegex"] != true && it["isEqual"] != false;
        plain && alert.get(name).is_some_and(|value| it["value"] == **value)
    });
    holds && matchers.iter().any(|it| it["name"] == "alertname")
}

/// Why, by whom and for how long: nobody else knows it.
fn is_considered(silence: &Value) -> anyhow::Result<SignedDuration> {
    for field in ["comment", "createdBy"] {
        let text = silence[field].as_str().unwrap_or_default();
        ensure!(!text.trim().is_empty(), "the silence has no {field}");
    }
    let time = |field: &str| -> anyhow::Result<Timestamp> {
        let text = silence[field].as_str().unwrap_or_default();
        text.parse()
            .with_context(|| format!("{field} of a silence: {text:?}"))
    };
    let lasts = time("endsAt")?.duration_since(time("startsAt")?);
    ensure!(
        lasts <= SILENCE,
        "the silence lasts {lasts:#}: somebody will forget it"
    );
    // It begins when Alertmanager has it, and not when it was written.
    Ok(lasts.round(Unit::Minute)?)
}

impl Grader<'_> {
    fn yaml(&self, name: &str) -> anyhow::Result<Value> {
        let read = serde_saphyr::from_str(&self.read(name)?);
        read.with_context(|| format!("{} is no YAML", self.file(name).display()))
    }

    fn alert(&self) -> anyhow::Result<Alert> {
        Alert::of(self.yaml(RULES)?).with_context(|| self.file(RULES).display().to_string())
    }

    async fn rules(&self, prometheus: &str) -> anyhow::Result<Vec<Value>> {
        let url = format!("{prometheus}/api/v1/rules");
        let mut answer = self.probe.get(&url, &[("type", "alert")]).await?;
        Ok(rules_of(&mut answer["data"])
            .map(|rule| rule.take())
            .collect())
    }

    async fn alert_is_written(&self) -> Seen {
        let alert = self.alert()?;
        self.endpoints.need(&["prometheus"])?;
        let theirs = self.rules(&self.endpoints.prometheus).await?;
        ensure!(
            theirs.iter().all(|rule| rule["name"] != *alert.name),
            "the lab has an alert {} already; give yours another name",
            alert.name
        );
        alert.is_complete(&self.layout.config(""))?;
        let file = self.file(RULES);
        self.promtool(&["check".as_ref(), "rules".as_ref(), file.as_os_str()])
            .await?;
        Ok(vec![format!(
            "{}, {}, after {}: {}",
            alert.name,
            alert.label("severity")?,
            alert.hold,
            alert.annotation("summary")?
        )])
    }

    /// Whether a test finds nothing wrong with rules.
    async fn passes(&self, rules: &Value, test: &Value) -> anyhow::Result<bool> {
        let folder = tempfile::tempdir().context("cannot make a directory")?;
        // JSON is YAML.
        std::fs::write(folder.path().join(RULES), rules.to_string())?;
        let file = folder.path().join(TEST);
        std::fs::write(&file, test.to_string())?;
        Ok(self.promtool_tests(&file).await.is_ok())
    }

    async fn promtool_tests(&self, file: &Path) -> anyhow::Result<()> {
        self.promtool(&["test".as_ref(), "rules".as_ref(), file.as_os_str()])
            .await
    }

    async fn is_tested(&self) -> Seen {
        let alert = self.alert()?;
        let (rules, test) = (self.yaml(RULES)?, self.yaml(TEST)?);
        let file = self.file(TEST);
        ensure!(
            test["rule_files"] == json!([RULES]),
            "{} has to be about {RULES}, by its rule_files",
            file.display()
        );
        self.promtool_tests(&file).await?;
        let never = mutant(&rules, |rule| rule["expr"] = "vector(0) > 1".into());
        let always = mutant(&rules, |rule| rule["expr"] = "vector(1)".into());
        let at_once = mutant(&rules, |rule| rule["for"] = "0s".into());
        ensure!(
            !self.passes(&never, &test).await?,
            "your test has nothing against a rule that never fires"
        );
        ensure!(
            !self.passes(&at_once, &test).await?,
            "your test has nothing against your rule without its `for`"
        );
        // Silence before `for` is over is not yet silence because all is well.
        for look in silent_looks(&test, &alert.name) {
            if self.passes(&at_once, &look).await? && !self.passes(&always, &look).await? {
                return Ok(vec![
                    "promtool finds nothing wrong".into(),
                    "it fails on a rule that never fires, on one that always does, and on yours without its `for`".into(),
                ]);
            }
        }
        anyhow::bail!("your test has nothing against a rule that fires while all is well")
    }

    async fn is_loaded(&self) -> Seen {
        let alert = self.alert()?;
        let url = self.own_prometheus().await?;
        let rules = self.rules(&url).await?;
        let rule = rules.iter().find(|rule| rule["name"] == *alert.name);
        let rule = rule.with_context(|| format!("{url} has no alert {}", alert.name))?;
        ensure!(
            words(&rule["labels"]) == alert.labels
                && words(&rule["annotations"]) == alert.annotations,
            "{url} has an older {}: let it read the file again",
            alert.name
        );
        ensure!(
            rule["health"] == "ok",
            "{} is {}: {}",
            alert.name,
            rule["health"],
            rule["lastError"]
        );
        let answer = self
            .probe
            .get(&format!("{url}/api/v1/alertmanagers"), &[])
            .await?;
        let known = answer["data"]["activeAlertmanagers"]
            .as_array()
            .into_iter()
            .flatten();
        let mut known = known.filter_map(|it| it["url"].as_str());
        let lab = &self.endpoints.alertmanager;
        let told = known.find(|it| {
            it.strip_prefix(lab.as_str())
                .is_some_and(|it| it.starts_with('/'))
        });
        let told =
            told.with_context(|| format!("{url} does not tell the lab's Alertmanager, {lab}"))?;
        Ok(vec![
            format!("{} is {} there", alert.name, rule["state"]),
            format!("it tells {told}"),
        ])
    }

    /// When somebody was told that the alert fires, before they were told that it is over.
    async fn told_at(&self, alert: &Alert) -> anyhow::Result<(String, Timestamp)> {
        self.endpoints.need(&["console"])?;
        let inbox = self.endpoints.inbox.as_deref();
        let inbox = inbox.context("the file of endpoints names no inbox")?;
        let channel = alert.channel()?;
        let wanted = [("channel", channel), ("alert", &alert.name)];
        let url = format!("{inbox}/inbox/api/messages");
        let answer = self.probe.get(&url, &wanted).await?;
        let messages = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let newest = |status: &str, before: Option<u64>| {
            let of_status = messages.iter().filter(|it| it["status"] == status);
            let of_status = of_status.filter_map(|it| Some((it["id"].as_u64()?, it)));
            let earlier = of_status.filter(|(id, _)| before.is_none_or(|before| *id < before));
            earlier.max_by_key(|(id, _)| *id)
        };
        let told = newest("firing", None);
        told.with_context(|| format!("no message of {channel} says that {} fires", alert.name))?;
        let (end, _) = newest("resolved", None)
            .with_context(|| format!("no message of {channel} says that {} is over", alert.name))?;
        let (_, begin) =
            newest("firing", Some(end)).context("the end was told before the beginning")?;
        let at = begin["received_at"].as_str().unwrap_or_default();
        let receiver = begin["receiver"].as_str().unwrap_or_default();
        Ok((
            receiver.to_owned(),
            at.parse().context("a message has a time")?,
        ))
    }

    /// The labels with which it fired in the learner's Prometheus when somebody was told of it.
    async fn fired(&self, alert: &Alert) -> anyhow::Result<Vec<Labels>> {
        let url = self.own_prometheus().await?;
        let (_, at) = self.told_at(alert).await?;
        let name = alert.name.escape_default();
        // The message came some seconds after the last look at the rule.
        let query =
            format!("last_over_time(ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}[1m])");
        let fired = self.vector(&url, &query, at).await?;
        ensure!(
            !fired.is_empty(),
            "{url} had no {name} that fired when {at} a message came"
        );
        let fired = fired.into_keys().map(|mut labels| {
            labels.remove("alertstate");
            labels
        });
        Ok(fired.collect())
    }

    async fn is_told(&self) -> Seen {
        let alert = self.alert()?;
        let (receiver, at) = self.told_at(&alert).await?;
        for labels in self.fired(&alert).await? {
            ensure!(
                labels.get("service").is_some_and(|it| !it.is_empty()),
                "{} fired without the label `service`, by which alertmanager.yml makes groups",
                alert.name
            );
        }
        Ok(vec![format!(
            "{receiver} was told at {}, and of its end",
            at.strftime("%F %T UTC")
        )])
    }

    async fn is_silenced(&self) -> Seen {
        let alert = self.alert()?;
        let fired = self.fired(&alert).await?;
        self.endpoints.need(&["alertmanager"])?;
        let url = format!("{}/api/v2/silences", self.endpoints.alertmanager);
        let silences = self.probe.get(&url, &[]).await?;
        let silences = silences.as_array().into_iter().flatten();
        let ours: Vec<_> = silences
            .filter(|it| fired.iter().any(|labels| is_about(it, labels)))
            .collect();
        ensure!(
            !ours.is_empty(),
            "Alertmanager has no silence of {} alone",
            alert.name
        );
        let mut reason = None;
        for silence in ours {
            match is_considered(silence) {
                Ok(lasts) => {
                    let (by, why) = (&silence["createdBy"], &silence["comment"]);
                    return Ok(vec![format!("{by} silenced it for {lasts:#}: {why}")]);
                }
                Err(not) => reason = Some(not),
            }
        }
        Err(reason.context("there is one")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
groups:
  - name: shop
    rules:
      - { record: a:b, expr: vector(1) }
      - alert: TooManyErrors
        expr: rate(errors_total[1m]) > 1
        for: 10s
        labels: { severity: warning, team: shop }
        annotations: { summary: s, description: "{{ $value }} a second", runbook_url: "https://example.com/" }
"#;

    fn rules() -> Value {
        serde_saphyr::from_str(RULES).unwrap()
    }

    #[test]
    fn an_alert_lacks_nothing() {
        let nowhere = Path::new("/nowhere");
        let alert = Alert::of(rules()).unwrap();
        alert.is_complete(nowhere).unwrap();
        assert_eq!(alert.channel().unwrap(), "slack");
        for (from, to, why) in [
            ("for: 10s", "for: 0s", "no `for`"),
            ("for: 10s", "keep_firing_for: 10s", "no `for`"),
            (
                "severity: warning",
                "severity: bad",
                "nobody is told of severity bad",
            ),
            ("severity: warning, ", "", "no label `severity`"),
            ("team: shop", "team: me", "no team me"),
            ("summary: s", "summary: ' '", "no annotation `summary`"),
            ("{{ $value }}", "some", "$value is missing"),
            (
                "https://example.com/",
                "docs/none.md#x",
                "no file docs/none.md",
            ),
        ] {
            let text = RULES.replace(from, to);
            assert_ne!(text, RULES);
            let alert = Alert::of(serde_saphyr::from_str(&text).unwrap()).unwrap();
            let error = alert.is_complete(nowhere).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(Alert::of(json!({ "groups": [] })).is_err());
        let twice = RULES.replace("record: a:b", "alert: AnotherOne");
        assert!(Alert::of(serde_saphyr::from_str(&twice).unwrap()).is_err());
    }

    #[test]
    fn mutants_differ_in_the_alert_alone() {
        let mutant = mutant(&rules(), |rule| rule["expr"] = "vector(1)".into());
        assert_ne!(mutant, rules());
        assert_eq!(
            mutant.to_string(),
            rules()
                .to_string()
                .replace("rate(errors_total[1m]) > 1", "vector(1)")
        );
    }

    #[test]
    fn of_a_test_each_look_at_its_silent_alert_is_taken() {
        let look = |at: &str, name: &str, alerts: Value| json!({ "eval_time": at, "alertname": name, "exp_alerts": alerts });
        let test = |looks: &[&Value], more: Value| json!({ "rule_files": ["x"], "tests": [{ "alert_rule_test": looks, "promql_expr_test": more }] });
        let silent = look("1m", "A", json!([]));
        let unsaid = json!({ "eval_time": "2m", "alertname": "A" });
        let (fires, other) = (look("3m", "A", json!([{}])), look("1m", "B", json!([])));
        let all = test(&[&silent, &unsaid, &fires, &other], json!([1]));
        let wanted = [&silent, &unsaid].map(|look| test(&[look], json!([])));
        assert_eq!(silent_looks(&all, "A"), wanted);
        assert!(silent_looks(&json!({}), "A").is_empty());
    }

    #[test]
    fn a_silence_is_of_one_alert_and_ends() {
        let alert = Labels::from(
            [("alertname", "A"), ("team", "shop")].map(|(name, value)| (name.into(), value.into())),
        );
        let matcher = |name: &str, value: &str| json!({ "name": name, "value": value, "isRegex": false, "isEqual": true });
        let silence = |matchers: Value| json!({ "matchers": matchers });
        assert!(is_about(
            &silence(json!([matcher("alertname", "A")])),
            &alert
        ));
        assert!(is_about(
            &silence(json!([matcher("team", "shop"), matcher("alertname", "A")])),
            &alert
        ));
        let mut regex = matcher("alertname", "A");
        regex["isRegex"] = true.into();
        let mut not = matcher("alertname", "A");
        not["isEqual"] = false.into();
        for other in [
            json!([]),
            json!([matcher("alertname", "B")]),
            json!([matcher("team", "shop")]),
            json!([matcher("alertname", "A"), matcher("team", "platform")]),
            json!([matcher("alertname", "A"), matcher("cluster", "x")]),
            json!([regex]),
            json!([not]),
        ] {
            assert!(!is_about(&silence(other.clone()), &alert), "{other}");
        }
        let of = |until: &str, comment: &str| json!({ "comment": comment, "createdBy": "me", "startsAt": "2026-01-01T10:00:00.000Z", "endsAt": until });
        assert!(is_considered(&of("2026-01-01T12:00:00.000Z", "a load test")).is_ok());
        assert!(is_considered(&of("2026-01-01T12:00:01.000Z", "a load test")).is_err());
        assert!(is_considered(&of("2026-01-01T11:00:00.000Z", " ")).is_err());
    }
}
