//! Rules as they are written, whole. After a change that is meant: `UPDATE_GOLDEN=1 cargo test -p slo`, and
//! read the difference.

use std::path::{Path, PathBuf};

use slo::{Clock, Specification, render};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/slo/golden")
        .join(file)
}

fn parse(file: &str) -> Specification {
    let text = std::fs::read_to_string(golden(file)).unwrap();
    Specification::parse(Path::new(file), &text).unwrap()
}

fn compare(specification: &str, clock: u32, rules: &str) {
    let rendered = render(&[parse(specification)], &Clock::new(clock, 5).unwrap()).unwrap();
    let path = golden(rules);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    assert_eq!(rendered, std::fs::read_to_string(&path).unwrap(), "{rules}");
}

#[test]
fn every_kind_of_slo() {
    compare("shop.yaml", 1, "shop.rules.yml");
}

#[test]
fn every_kind_of_slo_compressed() {
    compare("shop.yaml", 60, "shop.clock-60.rules.yml");
}

/// The rules as data, so that the clocks can be compared.
fn rules(clock: u32) -> Vec<serde_json::Value> {
    let text = render(&[parse("shop.yaml")], &Clock::new(clock, 5).unwrap()).unwrap();
    let file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Dashboards, alert routes and runbooks are written once for all clocks.
#[test]
fn a_clock_changes_expressions_and_the_period_and_nothing_else() {
    let (real, fast) = (rules(1), rules(60));
    assert_eq!(real.len(), fast.len());
    for (real, mut fast) in real.into_iter().zip(fast) {
        if real["record"] == "sloth_slo_info" {
            assert_eq!(
                fast["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("clock")
                    .unwrap(),
                "60"
            );
        }
        if real["record"] == "slo:time_period:days" {
            assert_eq!(
                (&real["expr"], &fast["expr"]),
                (&"vector(30)".into(), &"vector(0.5)".into())
            );
        }
        assert!(
            real["alert"].is_null() || real["expr"] == fast["expr"],
            "{real:#}"
        );
        fast["expr"] = real["expr"].clone();
        assert_eq!(real, fast);
    }
}

#[test]
fn two_files_cannot_define_the_same_slo() {
    let error = render(
        &[parse("shop.yaml"), parse("shop.yaml")],
        &Clock::new(1, 5).unwrap(),
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("both define the SLO shop-orders"),
        "{error}"
    );
}
