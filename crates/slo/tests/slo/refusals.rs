//! Everything a person can get wrong is refused with its place, its cause and its cure.

use std::path::Path;

use slo::{Error, Specification};

const GOOD: &str = r#"version: prometheus/v1
service: shop
slos:
  - name: orders
    objective: 99.9
    sli:
      events:
        error_query: sum(rate(orders_total{outcome="failed"}[{{.window}}]))
        total_query: sum(rate(orders_total[{{.window}}]))
    alerting:
      name: OrdersFail
"#;

fn parse(text: &str) -> Result<Specification, Error> {
    Specification::parse(Path::new("shop.yaml"), text)
}

/// What is said of the good specification with one thing changed.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1))
        .expect_err(to)
        .to_string()
}

#[track_caller]
fn assert_refused(from: &str, to: &str, place: &str, parts: &[&str]) {
    let text = refused(from, to);
    assert!(text.starts_with(&format!("shop.yaml:{place}")), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn the_specification_the_others_are_made_of_is_good() {
    parse(GOOD).unwrap();
}

#[test]
fn unknown_and_missing_keys() {
    assert_refused(
        "objective: 99.9",
        "objectiv: 99.9",
        "",
        &["objectiv", "line 5", "expected one of", " objective,"],
    );
    assert_refused(
        "      events:",
        "      evnts:",
        "",
        &["evnts", "line 7", "of events"],
    );
    assert_refused("    objective: 99.9\n", "", "", &["objective", "missing"]);
    assert_refused(
        "service: shop",
        "service: shop\nservice: shop",
        "",
        &["service", "duplicate"],
    );
    assert_refused("objective: 99.9", "objective: high", "", &["line 5"]);
}

#[test]
fn other_formats() {
    assert_refused(
        "prometheus/v1",
        "prometheus/v2",
        "1:10:",
        &["prometheus/v2", "version: prometheus/v1"],
    );
    assert_refused("prometheus/v1", "openslo/v1", "1:10:", &["openslo/v1"]);
}

#[test]
fn plugins() {
    let cure = &["plugins", "sli.events"][..];
    assert_refused(
        "service: shop",
        "service: shop\nslo_plugins:\n  chain: []",
        "",
        cure,
    );
    assert_refused(
        "    objective: 99.9",
        "    objective: 99.9\n    plugins:\n      chain: []",
        "",
        cure,
    );
    let from = GOOD.split_once("      events:").unwrap().1;
    let from = format!(
        "      events:{}",
        from.split_once("    alerting:").unwrap().0
    );
    assert_refused(
        &from,
        "      plugin:\n        id: availability\n",
        "8:9:",
        cure,
    );
}

#[test]
fn names_and_labels() {
    for name in ["a shop", "-shop", "shop.", "''"] {
        assert_refused(
            "service: shop",
            &format!("service: {name}"),
            "2:10:",
            &["letter or digit first"],
        );
    }
    assert_refused("name: orders", "name: or/ders", "4:11:", &["or/ders"]);
    for label in ["sloth_id", "__name__", "1st", "a-b"] {
        assert_refused(
            "service: shop",
            &format!("service: shop\nlabels:\n  {label}: x"),
            "4:3:",
            &[label],
        );
    }
    let twice = GOOD.split_once("slos:\n").unwrap().1;
    let text = parse(&format!("{GOOD}{twice}")).unwrap_err().to_string();
    assert!(text.contains("orders is described twice"), "{text}");
    let text = parse("version: prometheus/v1\nservice: shop\nslos: []\n")
        .unwrap_err()
        .to_string();
    assert!(text.contains("at least one SLO"), "{text}");
}

#[test]
fn objectives_that_no_alert_can_watch() {
    for objective in ["0", "100", "100.5", "-1", "99.99999999999999", ".nan"] {
        assert_refused("99.9", objective, "5:16:", &["between 0 and 100"]);
    }
    // 14.4 times 7 % is more than everything.
    assert_refused(
        "99.9",
        "93",
        "5:16:",
        &[
            "7 %",
            "100.8 %",
            "page",
            "above 93.06",
            "page_alert.disable",
        ],
    );
    assert_refused("99.9", "93.055", "5:16:", &["page"]);
    parse(&GOOD.replace("99.9", "93.06")).unwrap();

    let no_page = GOOD.replace(
        "name: OrdersFail",
        "name: OrdersFail\n      page_alert: {disable: true}",
    );
    let text = parse(&no_page.replace("99.9", "66.66"))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("ticket alert at burn rate 3") && text.contains("above 66.67"),
        "{text}"
    );
    parse(&no_page.replace("99.9", "66.67")).unwrap();

    let silent = no_page.replace(
        "{disable: true}",
        "{disable: true}\n      ticket_alert: {disable: true}",
    );
    parse(&silent.replace("99.9", "10")).unwrap();
}

#[test]
fn queries() {
    let total = "sum(rate(orders_total[{{.window}}]))";
    assert_refused(
        total,
        "sum(rate(orders_total[5m]))",
        "9:22:",
        &["{{.window}}"],
    );
    assert_refused(
        total,
        "sum(rate(orders_total{a=\"{{.env}}\"}[{{.window}}]))",
        "9:22:",
        &["template other than"],
    );
    assert_refused(
        total,
        "sum(rate(orders_total[{{.window)))",
        "9:22:",
        &["template"],
    );
    assert_refused(
        total,
        "sum(rate(orders_total[{{.window}}])",
        "9:22:",
        &["no PromQL"],
    );
    assert_refused(
        total,
        "sum(orders_total, [{{.window}}])",
        "9:22:",
        &["no PromQL"],
    );
    assert_refused(
        "error_query: sum(rate(orders_total{outcome=\"failed\"}",
        "error_query: sum(rate(orders_total",
        "8:22:",
        &["the same"],
    );
    assert_refused(
        "    alerting:",
        "      raw:\n        error_ratio_query: avg_over_time(x[{{.window}}])\n    alerting:",
        "7:7:",
        &["exactly one"],
    );
}

#[test]
fn alerts_without_a_name() {
    assert_refused(
        "      name: OrdersFail",
        "      labels: {}",
        "4:11:",
        &["alerting.name", "disable"],
    );
    assert_refused(
        "    alerting:\n      name: OrdersFail\n",
        "",
        "4:11:",
        &["alerting.name"],
    );
}

#[test]
fn a_latency_threshold_has_to_be_the_bound_of_a_bucket() {
    let bounds = |metric: &str| (metric == "orders_bucket").then_some(&[0.1, 0.25, 1.0][..]);
    let check = |matcher: &str| {
        let error = format!(
            "sum(rate(orders_count[{{{{.window}}}}])) - sum(rate(orders_bucket{{{matcher}}}[{{{{.window}}}}]))"
        );
        let text = GOOD.replace(
            r#"sum(rate(orders_total{outcome="failed"}[{{.window}}]))"#,
            &error,
        );
        let specification = parse(&text).unwrap();
        specification
            .check_thresholds(bounds)
            .map_err(|error| error.to_string())
    };
    for good in [r#"le="0.25""#, r#"le="1""#, r#"le="+Inf""#] {
        check(good).unwrap();
    }
    let text = check(r#"le="0.2""#).unwrap_err();
    assert!(
        text.starts_with("shop.yaml:8:22:") && text.contains("0.1, 0.25, 1, +Inf"),
        "{text}"
    );
    // Prometheus compares labels as text, and the service writes 1.
    let text = check(r#"le="1.0""#).unwrap_err();
    assert!(text.contains(r#"le="1.0""#), "{text}");
    let text = check(r#"le=~"0.25|1""#).unwrap_err();
    assert!(text.contains("cannot be checked"), "{text}");
    // Of another histogram nothing is known.
    parse(&GOOD.replace(r#"outcome="failed""#, r#"le="7""#))
        .unwrap()
        .check_thresholds(bounds)
        .unwrap();
}
