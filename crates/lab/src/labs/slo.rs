//! Lab 9: an objective for payments, from a sentence to rules, and what it means that it burns.

use std::path::Path;

use ::slo::{Clock, Objective, Specification};
use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::grader::{Graded, Grader, Seen, graded};
use crate::committed;

/// The learner's specification and its rules; the folder of the solution has a specification of the same name.
const SPECIFICATION: &str = "slo.yaml";
const RULES: &str = "rules.yml";
const SOLUTION: &str = "solution";
/// What is asked for.
const SERVICE: &str = "payments";
const NAME: &str = "availability";
const TARGET: f64 = 0.995;
/// The windows that are compared: the shortest, and one in which the fault is still to be seen.
const SHORT: &str = "slo:sli_error:ratio_rate5m";
const LONG: &str = "slo:sli_error:ratio_rate1h";
/// The rate at which somebody is woken (SRE workbook, chapter 5).
const PAGE: f64 = 14.4;
/// What is to be worked out, and how far off it may be.
const NUMBERS: [(&str, f64, f64); 3] = [
    // 30 days of 1440 minutes, half a percent of them.
    ("minutes_of_outage_in_30_days", 216.0, 0.5),
    // Two percent of requests fail, half a percent may.
    ("burn_rate_when_2_percent_fail", 4.0, 0.01),
    // 30 days at 14.4 times the speed, in hours.
    ("hours_until_nothing_is_left_at_14_4", 50.0, 0.5),
];

pub(super) async fn grade(it: &Grader<'_>) -> Vec<Graded> {
    vec![
        graded(
            "The objective is written down",
            "slo.yaml: service payments, one objective named availability, 99.5; prometheus/slos/flask-api.yaml is one to learn from",
            it.is_written(),
        ),
        graded(
            "Its indicator counts what customers notice",
            "bad events are POSTs that were answered with 5xx, among all POSTs; let payments fail for a while, so that there is something to count",
            it.indicates().await,
        ),
        graded(
            "Its rules are rendered and taken by Prometheus",
            "lab slo render labs/09-slo/work/slo.yaml --output labs/09-slo/work/rules.yml, again after each change",
            it.is_rendered().await,
        ),
        graded(
            "You know what the numbers mean",
            "the budget is what is missing to 100 %; a burn rate says how many times faster than allowed it is spent",
            it.is_worked_out(),
        ),
        graded(
            "You have seen it burn",
            "lab chaos start errors --service payments --probability 0.5 --for 3m, and look at the indicator's 5 minutes divided by the budget",
            it.burned().await,
        ),
    ]
}

/// An expression that the rules of a specification record.
fn recorded(rules: &str, name: &str) -> anyhow::Result<String> {
    let rules: Value = serde_saphyr::from_str(rules).context("rules are YAML")?;
    let groups = rules["groups"].as_array().into_iter().flatten();
    let mut rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let rule = rules.find(|rule| rule["record"] == name);
    let expr = rule.and_then(|rule| rule["expr"].as_str());
    let expr = expr.with_context(|| format!("no rule records {name}"))?;
    Ok(expr.split_whitespace().collect::<Vec<_>>().join(" "))
}

impl Grader<'_> {
    /// A specification, with its rules on the real clock.
    fn specification(&self, file: &Path, text: &str) -> anyhow::Result<(Vec<Objective>, String)> {
        let specification = Specification::parse(file, text)?;
        let clock = Clock::new(1, crate::slo::scrape_interval(self.layout)?)?;
        let objectives = specification.objectives();
        Ok((objectives, ::slo::render(&[specification], &clock)?))
    }

    fn objective(&self) -> anyhow::Result<(Objective, String)> {
        let text = self.read(SPECIFICATION)?;
        let (objectives, rules) = self.specification(&self.file(SPECIFICATION), &text)?;
        ensure!(
            objectives.len() == 1,
            "it has {} objectives; this lab asks for one",
            objectives.len()
        );
        let objective = objectives.into_iter().next().context("there is one")?;
        Ok((objective, rules))
    }

    fn is_written(&self) -> Seen {
        let (objective, _) = self.objective()?;
        let Objective {
            service,
            name,
            ratio,
            ..
        } = &objective;
        ensure!(service == SERVICE, "its service is {service}");
        ensure!(name == NAME, "its objective is named {name}");
        ensure!(
            (ratio - TARGET).abs() < 1e-9,
            "its objective is {} %",
            ratio * 100.0
        );
        Ok(vec![format!(
            "{} % of what {service} is asked for succeeds",
            ratio * 100.0
        )])
    }

    async fn indicates(&self) -> Seen {
        let (_, own) = self.objective()?;
        let file = self.folder.join(SOLUTION).join(SPECIFICATION);
        let (_, theirs) = self.specification(&file, &committed::read(&file)?)?;
        let [own, theirs] = [own, theirs].map(|rules| recorded(&rules, LONG));
        let (own, theirs) = (own?, theirs?);
        let now = self
            .vector(&self.endpoints.prometheus, &theirs, Timestamp::now())
            .await?;
        let failed = now.values().copied().fold(0.0, f64::max);
        ensure!(
            failed > 0.0,
            "nothing has failed in payments within the last hour, so right and wrong indicators say the same"
        );
        self.same_answers(&own, &theirs)
            .await
            .context("its indicator over one hour")?;
        Ok(vec![format!(
            "{:.2} % failed within the last hour: {own}",
            failed * 100.0
        )])
    }

    async fn is_rendered(&self) -> Seen {
        let (_, rendered) = self.objective()?;
        ensure!(
            self.read(RULES)? == rendered,
            "{} is not what {SPECIFICATION} is rendered to",
            self.file(RULES).display()
        );
        let file = self.file(RULES);
        self.promtool(&["check".as_ref(), "rules".as_ref(), file.as_os_str()])
            .await?;
        let alerts = rendered.matches("- alert: ").count();
        let records = rendered.matches("- record: ").count();
        Ok(vec![format!(
            "{records} recordings and {alerts} alerts; promtool finds nothing wrong"
        )])
    }

    fn is_worked_out(&self) -> Seen {
        let answers = self.answers()?;
        for (question, right, off_by) in NUMBERS {
            let given = answers.number(question)?;
            ensure!((given - right).abs() <= off_by, "`{question}`: not {given}");
        }
        Ok(NUMBERS
            .map(|(question, right, _)| format!("{question}: {right}"))
            .into())
    }

    async fn burned(&self) -> Seen {
        let (objective, rules) = self.objective()?;
        let burn = format!(
            "max_over_time((({}) / {})[1h:15s])",
            recorded(&rules, SHORT)?,
            1.0 - objective.ratio
        );
        self.endpoints.need(&["prometheus"])?;
        let vector = self
            .vector(&self.endpoints.prometheus, &burn, Timestamp::now())
            .await?;
        let most = vector.values().copied().fold(0.0, f64::max);
        ensure!(
            most >= PAGE,
            "within the last hour it burned at {most:.1} times the speed that is allowed, at most"
        );
        Ok(vec![format!(
            "within the last hour it burned at {most:.1} times the speed that is allowed"
        )])
    }
}
