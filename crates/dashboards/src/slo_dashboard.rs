//! The objectives: kept or missed, what is left of the budget, and how fast it goes.

use serde_json::json;
use slo::BurnRate;

use crate::{
    Error, Facts,
    build::{Draft, Page},
    model::Dashboard,
};

/// What links and alerts call it.
pub const UID: &str = "slo-dashboard";

/// The objectives that are looked at.
const THESE: &str = r#"sloth_service=~"$service", sloth_slo=~"$slo""#;

pub(crate) fn dashboard(facts: &Facts) -> Result<Dashboard, Error> {
    let mut page = Page::new(
        UID,
        "SLO Dashboard",
        "Is what users were promised kept, how much may still go wrong, how fast is that being used up, and by what.",
        "now-1h",
    );
    page.variable(
        "service",
        "Service",
        "label_values(sloth_slo_info, sloth_service)",
        ".+",
    );
    page.variable(
        "slo",
        "Objective",
        r#"label_values(sloth_slo_info{sloth_service=~"$service"}, sloth_slo)"#,
        ".+",
    );
    glance(&mut page, facts)?;
    indicators(&mut page, facts)?;
    budget(&mut page);
    burn_rates(&mut page);
    incidents(&mut page);
    page.row("How to read this");
    page.put(
        24,
        6,
        Draft::words(
            "How to read this",
            WORDS,
            "What the words on this page mean.",
        ),
    );
    Ok(page.finish())
}

const WORDS: &str = "\
The **objective** is the share of requests that has to be good over the **period**; what is left over is the **error budget**. \
A **burn rate** of 1 spends the budget in exactly the period, 14.4 in a fiftieth of that times 1.04: two days of thirty.

An alert fires when the budget burns too fast over a long window *and* over a short one: the long one says that it matters, the short one that it goes on.

Windows are named by what is meant. A lab runs its objectives on a clock sixty times faster unless it was started with `--profile real-time`: \
*1h* is then a minute and the period twelve hours, as the panel *Period* says. `docs/slo.md` has the mathematics, which is that of the [SRE workbook](https://sre.google/workbook/alerting-on-slos/).";

/// The good share: one less the recorded bad share, which just after a start can stray a little from 0 to 1.
fn good(window: &str, slo: &str) -> String {
    format!(
        r#"clamp(1 - slo:sli_error:ratio_rate{window}{{sloth_service=~"$service", sloth_slo="{slo}"}}, 0, 1)"#
    )
}

fn glance(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    let period = slo::period();
    let availability = facts.objective("availability")?.ratio;
    let latency = facts.objective("latency")?.ratio;
    page.row("At a glance");
    page.put(
        4,
        5,
        Draft::stat("Availability", "percentunit", "Share of requests answered without a 5xx status, over the period. Red: the objective is missed.")
            .decimals(3)
            .steps("red", &[(availability, "green")])
            .line(&good(&period, "availability"), "{{sloth_service}}"),
    );
    page.put(
        4,
        5,
        Draft::stat("Answered in time", "percentunit", "Share of requests answered within the latency objective's threshold, over the period. Red: the objective is missed.")
            .decimals(2)
            .steps("red", &[(latency, "green")])
            .line(&good(&period, "latency"), "{{sloth_service}}"),
    );
    page.put(
        4,
        5,
        Draft::stat("Objective", "percentunit", "The share that has to be good.")
            .decimals(1)
            .option("graphMode", "none")
            .steps("blue", &[])
            .now(&format!("slo:objective:ratio{{{THESE}}}"), "{{sloth_slo}}"),
    );
    page.put(
        4,
        5,
        Draft::gauge(
            "Error budget left",
            "percentunit",
            "1 is all of it; below 0 the objective is missed.",
        )
        .between(0.0, 1.0)
        .decimals(1)
        .steps("red", &[(0.1, "orange"), (0.5, "green")])
        .now(
            &format!("slo:period_error_budget_remaining:ratio{{{THESE}}}"),
            "{{sloth_slo}}",
        ),
    );
    page.put(
        4,
        5,
        Draft::stat("Total outage that is left", "s", "How long everything could fail before the objective is missed.")
            .steps("red", &[(0.0001, "green")])
            .option("graphMode", "none")
            .now(
                &format!(
                    "clamp_min(slo:period_error_budget_remaining:ratio{{{THESE}}} * on (sloth_id) group_left () slo:error_budget:ratio * on (sloth_id) group_left () slo:time_period:days * 86400, 0)"
                ),
                "{{sloth_slo}}",
            ),
    );
    page.put(
        4,
        5,
        Draft::stat("Period", "d", "What the objectives are kept or missed over: thirty days, or half a day on a lab's clock.")
            .option("graphMode", "none")
            .steps("blue", &[])
            .now(&format!("max(slo:time_period:days{{{THESE}}})"), "period"),
    );
    Ok(())
}

fn indicators(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Availability and latency");
    for (name, title, description) in [
        (
            "availability",
            "Availability over time",
            "Share of requests answered without a 5xx status, over windows from short to the period; the line is the objective.",
        ),
        (
            "latency",
            "Answered in time, over time",
            "Share of requests answered within the threshold, over windows from short to the period; the line is the objective.",
        ),
    ] {
        let objective = facts.objective(name)?;
        let quick = &slo::burn_rates()[0];
        let mut draft = Draft::timeseries(title, "percentunit", description)
            .decimals(3)
            .steps("red", &[(objective.ratio, "transparent")])
            .custom("thresholdsStyle", json!({ "mode": "line" }));
        for window in [&quick.short, &quick.long, &slo::period()] {
            draft = draft.line(
                &good(window, name),
                &format!("{{{{sloth_service}}}} over {window}"),
            );
        }
        page.put(12, 8, draft);
    }
    Ok(())
}

fn budget(page: &mut Page) {
    page.row("Error budget");
    page.put(
        12,
        8,
        Draft::timeseries("Error budget left, its course", "percentunit", "Each period's share that is left. Steep is an incident, a slope is a bug; it comes back as what was bad leaves the period.")
            .steps("transparent", &[(0.0, "transparent")])
            .line(&format!("slo:period_error_budget_remaining:ratio{{{THESE}}}"), "{{sloth_service}} {{sloth_slo}}"),
    );
    let mut spent = Draft::bars("Budget spent, by window", "percentunit", "Share of the period's budget that was spent in each window. An even share of an hour is 0.14 %, of a day 3.3 %.")
        .zero_based()
        .decimals(2)
        .steps("green", &[(0.02, "yellow"), (0.1, "red")]);
    for burn in long_windows() {
        let window = &burn.long;
        let share = days(burn.long_seconds);
        spent = spent.now(
            &format!(
                "clamp_min(slo:sli_error:ratio_rate{window}{{{THESE}}} / on (sloth_id) group_left () slo:error_budget:ratio, 0) * {share} / 30"
            ),
            &format!("{{{{sloth_slo}}}}, last {window}"),
        );
    }
    page.put(12, 8, spent);
}

fn long_windows() -> Vec<BurnRate> {
    slo::burn_rates()
}

fn days(seconds: u64) -> String {
    format!("({seconds} / 86400)")
}

fn burn_rates(page: &mut Page) {
    page.row("Burn rates");
    for BurnRate {
        severity,
        factor,
        long,
        short,
        ..
    } in slo::burn_rates()
    {
        let rate = |window: &str| {
            format!(
                "clamp_min(slo:sli_error:ratio_rate{window}{{{THESE}}} / on (sloth_id) group_left () slo:error_budget:ratio, 0)"
            )
        };
        page.put(
            6,
            8,
            Draft::timeseries(
                &format!("{severity}: {factor} times, over {long} and {short}"),
                "none",
                &format!("How many times faster than it lasts the budget burns. When both windows of an objective are above the line, {factor}, a {severity} goes out."),
            )
            .zero_based()
            .limit(factor)
            .line(&rate(&long), &format!("{{{{sloth_slo}}}} {long}"))
            .line(&rate(&short), &format!("{{{{sloth_slo}}}} {short}")),
        );
    }
    page.put(
        12,
        6,
        Draft::timeseries(
            "Bad requests",
            "short",
            "Requests that were bad, in the hour before; an alert wants more than one.",
        )
        .zero_based()
        .line(
            &format!(
                "clamp_min(slo:sli_error_events:increase{}{{{THESE}}}, 0)",
                slo::burn_rates()[0].long
            ),
            "{{sloth_service}} {{sloth_slo}}",
        ),
    );
    page.put(
        12,
        6,
        Draft::table("Burn-rate alerts", "none", "Alerts of these objectives that fire or are about to.")
            .when_empty("no budget burns too fast")
            .columns(&format!(
                "max by (alertname, sloth_service, sloth_slo, sloth_severity, alertstate) (ALERTS{{{THESE}}})"
            ))
            .named(
                &[
                    ("alertname", "Alert"),
                    ("sloth_service", "Service"),
                    ("sloth_slo", "Objective"),
                    ("sloth_severity", "Severity"),
                    ("alertstate", "State"),
                ],
                &["Time", "Value"],
            ),
    );
}

/// What an objective burns while each alert of its service fires.
fn during(slo: &str) -> String {
    format!(
        r#"max by (alertname, service) (ALERTS{{alertstate="firing", service=~"$service"}}) * on (service) group_left () max by (service) (clamp_min(slo:current_burn_rate:ratio{{sloth_service=~"$service", sloth_slo="{slo}"}}, 0))"#
    )
}

fn incidents(page: &mut Page) {
    page.row("Budget spent by incident");
    let spent = |slo: &str| {
        format!(
            r#"sum_over_time(({})[$__range:$__interval]) * $__interval_ms / 1000 / on (service) group_left () max by (service) (slo:time_period:days{{sloth_slo="{slo}"}} * 86400) > 0"#,
            during(slo)
        )
    };
    page.put(
        12,
        8,
        Draft::table("Budget spent while an alert fired", "percentunit", "Share of the period's budget that went while each alert of the service fired, in the time range. Incidents overlap: one failure fires several alerts.")
            .when_empty("no alert fired while the budget burned")
            .columns(&spent("availability"))
            .columns(&spent("latency"))
            .named(
                &[
                    ("alertname", "Incident"),
                    ("service", "Service"),
                    ("Value #A", "Availability budget"),
                    ("Value #B", "Latency budget"),
                ],
                &["Time"],
            ),
    );
    page.put(
        12,
        8,
        Draft::timeseries("Burn rate while an alert fires", "none", "How fast the availability budget burns while each alert of the service fires: which incident costs what.")
            .zero_based()
            .when_empty("no alert fires")
            .line(&during("availability"), "{{alertname}}"),
    );
}
