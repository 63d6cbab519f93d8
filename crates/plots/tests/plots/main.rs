//! Pictures in a real browser.
#![cfg(test)]

use plots::{Format, Single, Value};
use serde_json::json;
use test_browser::Browser;

/// The text of each value that takes more than one line, or is wider than its place.
const BROKEN: &str = r#"[...document.querySelectorAll(".plot-stat-value, .plot-gauge-value")].filter((it) => {
    const words = document.createRange();
    words.selectNodeContents(it);
    return words.getClientRects().length > 1 || words.getBoundingClientRect().width > it.parentElement.clientWidth;
}).map((it) => it.textContent)"#;

/// In which size each value is written, in whole pixels.
const SIZES: &str = r#"[...document.querySelectorAll(".plot-stat-value, .plot-gauge-value")].map((it) => Math.round(parseFloat(getComputedStyle(it).fontSize)))"#;

fn values(texts: &[&str]) -> Single {
    let value = |text: &&str| Value {
        name: "availability".into(),
        text: Some((*text).to_owned()),
        ..Value::default()
    };
    Single {
        values: texts.iter().map(value).collect(),
        format: Format::default(),
        ..Single::default()
    }
}

#[tokio::test]
async fn nine_characters_stay_on_one_line_in_a_narrow_panel() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let show = async |plot: &Single, width: u32| {
        for picture in [plot.stat(), plot.gauge()] {
            let html = format!(
                "<!DOCTYPE html><style>body {{ font: 16px/1.5 sans-serif; overflow-wrap: anywhere }} {}</style><div style='width: {width}px'>{}</div>",
                plots::style(),
                picture.into_string()
            );
            std::fs::write(&page, html).unwrap();
            browser.open(&format!("file://{}", page.display())).await;
            let broken = browser.value(BROKEN).await;
            assert_eq!(broken, json!([]), "{width} pixels");
        }
        browser.value(SIZES).await
    };
    // "Error budget left" of the SLO dashboard has 178 pixels.
    for width in [100, 178, 240, 400] {
        for texts in [
            ["-4443.6 %", "100.0 %"],
            ["12345678%", "0%"],
            ["-99.99%", "7.2 min"],
        ] {
            show(&values(&texts), width).await;
        }
    }
    let sizes = show(&values(&["-4443.6 %", "100.0 %"]), 178).await;
    assert_eq!(sizes[0], sizes[1], "side by side they are of one size");
    let (short, long) = (values(&["100.0%"; 2]), values(&["-4443.6 %"; 2]));
    let sizes = [show(&short, 178).await, show(&long, 178).await].map(|it| it[0].as_f64().unwrap());
    assert!(sizes[0] > sizes[1], "only what is long is small: {sizes:?}");
}
