//! The result as one page that needs nothing else: plots as SVG, light or dark as the reader has it.

use std::fmt::Write as _;

use crate::summary::{Percentiles, Summary, Traced};
use crate::times::Times;

const STYLE: &str = "
:root { color-scheme: light dark;
  --ink: light-dark(#1c2126, #e4e7ea); --dim: light-dark(#5c6670, #9aa4ae); --rule: light-dark(#dde2e6, #343a41);
  --paper: light-dark(#fff, #16191d); --a: light-dark(#0b6bcb, #5cb0ff); --b: light-dark(#b45309, #f0a348);
  --c: light-dark(#b3261e, #ff8a80) }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.dim, figcaption { color: var(--dim) } figure { margin: 0 } .wide { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--rule) }
.n { text-align: right; font-variant-numeric: tabular-nums } .bad { color: var(--c); font-weight: 600 }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: var(--dim) } svg .grid { stroke: var(--rule) }
svg path { fill: none; stroke-width: 1.6; stroke-linejoin: round }
svg .a { stroke: var(--a) } svg .b { stroke: var(--b) } svg .c { stroke: var(--c) }
b.a { color: var(--a) } b.b { color: var(--b) } b.c { color: var(--c) }
";

/// The page.
pub fn page(summary: &Summary) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>loadgen: result</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>Result of a load</h1>\n"
    );
    let sections = [
        verdict(summary),
        counts(summary),
        thresholds(summary),
        percentiles(summary),
        over_time(summary),
        by_percentile(summary),
        routes(summary),
        journeys(summary),
        errors(summary),
        traced("Slowest traces", &summary.slowest),
        traced("Failed traces", &summary.failures),
        generator(summary),
    ];
    page.extend(sections);
    page.push_str("</body>\n</html>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// A table whose columns are numbers, but the first one.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = "<div class=\"wide\"><table>\n<tr>".to_owned();
    let class = |column: usize| if column == 0 { "" } else { " class=\"n\"" };
    for (column, name) in head.iter().enumerate() {
        let _ = write!(table, "<th{}>{}</th>", class(column), escaped(name));
    }
    table.push_str("</tr>\n");
    for row in rows {
        table.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(table, "<td{}>{}</td>", class(column), escaped(cell));
        }
        table.push_str("</tr>\n");
    }
    table + "</table></div>\n"
}

fn verdict(summary: &Summary) -> String {
    match &summary.limited_because {
        Some(because) => format!(
            "<p class=\"bad\">Limited by the generator: {}.</p>\n",
            escaped(because)
        ),
        None => "<p class=\"dim\">Not limited by the generator: it was on time, had time to spare, and dropped nothing.</p>\n".to_owned(),
    }
}

fn counts(summary: &Summary) -> String {
    let length = format!(
        "{}{}",
        summary.elapsed_seconds,
        if summary.interrupted {
            " (interrupted)"
        } else {
            ""
        }
    );
    let head = [
        "seconds",
        "/s wanted",
        "/s achieved",
        "sent",
        "received",
        "failed",
        "timed out",
        "dropped",
    ];
    let row = vec![
        length,
        summary.wanted_rate.to_string(),
        summary.achieved_rate.to_string(),
        summary.sent.to_string(),
        summary.received.to_string(),
        summary.failed.to_string(),
        summary.timed_out.to_string(),
        summary.dropped.to_string(),
    ];
    table(&head, [row])
}

fn thresholds(summary: &Summary) -> String {
    if summary.thresholds.is_empty() {
        return String::new();
    }
    let mut list = "<h2>Thresholds</h2>\n<ul>\n".to_owned();
    for checked in &summary.thresholds {
        let (class, word) = if checked.ok {
            ("", "good")
        } else {
            (" class=\"bad\"", "failed")
        };
        let measured = checked
            .value
            .map_or_else(|| "nothing".to_owned(), |value| format!("{value:.6}"));
        let threshold = escaped(&checked.threshold);
        let _ = writeln!(
            list,
            "<li{class}><code>{threshold}</code>: {word}, measured {measured}</li>"
        );
    }
    list + "</ul>\n"
}

fn percentiles(summary: &Summary) -> String {
    let row = |name: &str, of: &Percentiles| {
        let numbers = [of.p50, of.p90, of.p99, of.p99_9, of.max].map(number);
        [vec![name.to_owned()], numbers.to_vec()].concat()
    };
    let rows = [
        row("latency: intended start to end", &summary.latency_ms),
        row("service: actual start to end", &summary.service_ms),
        row("lateness: intended to actual start", &summary.lateness_ms),
    ];
    "<h2>Times in milliseconds</h2>\n".to_owned()
        + &table(&["", "p50", "p90", "p99", "p99.9", "max"], rows)
}

fn over_time(summary: &Summary) -> String {
    let timeline = &summary.timeline;
    let seconds = timeline.interval_ms as f64 / 1e3;
    let at = |n: usize| (n as f64 + 0.5) * seconds;
    let latency = |share: f64| {
        let of = |(n, interval): (usize, &crate::timeline::Interval)| {
            interval.latency.quantile_ms(share).map(|ms| (at(n), ms))
        };
        timeline
            .intervals
            .iter()
            .enumerate()
            .filter_map(of)
            .collect::<Vec<_>>()
    };
    let rate = |count: fn(&crate::timeline::Interval) -> u64| {
        let of = |(n, interval)| (at(n), count(interval) as f64 / seconds);
        timeline
            .intervals
            .iter()
            .enumerate()
            .map(of)
            .collect::<Vec<_>>()
    };
    let end = timeline.intervals.len() as f64 * seconds;
    let latency = Plot {
        name: "Latency over time",
        lines: [
            ("a", latency(0.5)),
            ("b", latency(0.99)),
            ("c", latency(1.0)),
        ]
        .into(),
        x_max: end,
        x_ticks: ticks(end)
            .into_iter()
            .map(|x| (x, format!("{x} s")))
            .collect(),
        unit: "ms",
    };
    let rates = Plot {
        name: "Requests a second over time",
        lines: [
            ("a", rate(|interval| interval.sent)),
            ("c", rate(|interval| interval.errors)),
        ]
        .into(),
        x_max: end,
        x_ticks: latency.x_ticks.clone(),
        unit: "/s",
    };
    format!(
        "<h2>Over time</h2>\n<figure>{}<figcaption>Latency by when a request was due: <b class=\"a\">p50</b>, \
         <b class=\"b\">p99</b>, <b class=\"c\">max</b> of each {seconds} s</figcaption></figure>\n\
         <figure>{}<figcaption>Requests a second: <b class=\"a\">sent</b>, <b class=\"c\">failed or timed out</b>\
         </figcaption></figure>\n",
        latency.svg(),
        rates.svg()
    )
}

fn by_percentile(summary: &Summary) -> String {
    let histograms = &summary.histograms;
    let count = histograms.latency.count().max(histograms.service.count());
    // In powers of ten of how rare it is: 0.9 is at 1, 0.99 at 2. Rarer than one of all is nowhere.
    let x_max = (count.max(10) as f64).log10();
    let line = |times: &Times| {
        (0..=400)
            .map(|step| x_max * f64::from(step) / 400.0)
            .filter_map(|x| Some((x, times.quantile_ms(1.0 - 10_f64.powf(-x))?)))
            .collect::<Vec<_>>()
    };
    let labels = [
        (0.5, "p50"),
        (0.9, "p90"),
        (0.99, "p99"),
        (0.999, "p99.9"),
        (0.9999, "p99.99"),
        (0.99999, "p99.999"),
    ];
    let plot = Plot {
        name: "Latency by percentile",
        lines: [
            ("a", line(&histograms.latency)),
            ("b", line(&histograms.service)),
        ]
        .into(),
        x_max,
        x_ticks: labels
            .map(|(share, label): (f64, _)| (-(1.0 - share).log10(), label.to_owned()))
            .into(),
        unit: "ms",
    };
    format!(
        "<h2>By percentile</h2>\n<figure>{}<figcaption><b class=\"a\">Latency</b>, which customers wait, and \
         <b class=\"b\">service time</b>, which the server takes</figcaption></figure>\n",
        plot.svg()
    )
}

fn routes(summary: &Summary) -> String {
    let rows = summary.routes.iter().map(|(name, route)| {
        let of = &route.latency_ms;
        let mut row = vec![
            name.clone(),
            route.sent.to_string(),
            route.errors.to_string(),
        ];
        row.extend([of.p50, of.p90, of.p99, of.max].map(number));
        row
    });
    "<h2>Routes, latency in milliseconds</h2>\n".to_owned()
        + &table(&["", "sent", "errors", "p50", "p90", "p99", "max"], rows)
}

fn errors(summary: &Summary) -> String {
    if summary.errors.is_empty() {
        return String::new();
    }
    let rows = summary.errors.iter().map(|(kind, errors)| {
        vec![
            kind.clone(),
            errors.count.to_string(),
            errors.example.clone(),
        ]
    });
    "<h2>Failed connections</h2>\n".to_owned() + &table(&["", "number", "the first one"], rows)
}

fn traced(title: &str, traces: &[Traced]) -> String {
    if traces.is_empty() {
        return String::new();
    }
    let rows = traces.iter().map(|traced| {
        vec![
            format!("{} {}", traced.trace_id, traced.request),
            traced.outcome.clone(),
            number(Some(traced.latency_ms)),
            number(Some(traced.service_ms)),
        ]
    });
    format!("<h2>{title}</h2>\n") + &table(&["trace", "answer", "latency, ms", "service, ms"], rows)
}

fn journeys(summary: &Summary) -> String {
    if summary.journeys.is_empty() {
        return String::new();
    }
    let rows = summary.journeys.iter().flat_map(|(name, journey)| {
        let whole = vec![
            name.clone(),
            journey.begun.to_string(),
            journey.completed.to_string(),
        ];
        let reasons = journey.broken_off.iter();
        let reasons = reasons.map(|(why, count)| {
            vec![
                format!("broken off: {why}"),
                String::new(),
                count.to_string(),
            ]
        });
        std::iter::once(whole).chain(reasons)
    });
    "<h2>Journeys</h2>\n".to_owned() + &table(&["", "begun", "completed"], rows)
}

fn generator(summary: &Summary) -> String {
    let used = &summary.generator;
    let row = vec![
        format!("{:.0} %", used.cpu_share * 100.0),
        format!("{:.0} MiB", used.max_rss_bytes as f64 / f64::from(1 << 20)),
        used.connections.to_string(),
        used.max_connections.to_string(),
    ];
    "<h2>What the generator used</h2>\n".to_owned()
        + &table(&["of a core", "memory", "connections", "at a time"], [row])
}

/// Lines over a common axis, from zero up.
struct Plot {
    name: &'static str,
    /// Each with its class, which is its colour.
    lines: Vec<(&'static str, Vec<(f64, f64)>)>,
    x_max: f64,
    x_ticks: Vec<(f64, String)>,
    unit: &'static str,
}

impl Plot {
    fn svg(&self) -> String {
        const LEFT: f64 = 64.0;
        const TOP: f64 = 12.0;
        const WIDTH: f64 = 680.0;
        const HEIGHT: f64 = 200.0;
        let values = self
            .lines
            .iter()
            .flat_map(|(_, line)| line.iter().map(|(_, y)| *y));
        let highest = values.fold(0.0, f64::max);
        let y_ticks = ticks(if highest > 0.0 { highest } else { 1.0 });
        let y_max = highest.max(y_ticks.last().copied().unwrap_or(1.0));
        let x_max = if self.x_max > 0.0 { self.x_max } else { 1.0 };
        let x_of = |x: f64| LEFT + WIDTH * x / x_max;
        let y_of = |y: f64| TOP + HEIGHT * (1.0 - y / y_max);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n",
            LEFT + WIDTH + 24.0,
            TOP + HEIGHT + 24.0,
            self.name
        );
        for y in y_ticks {
            let at = y_of(y);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{y} {}</text>",
                LEFT + WIDTH,
                LEFT - 6.0,
                at + 4.0,
                self.unit
            );
        }
        for (x, label) in self.x_ticks.iter().filter(|(x, _)| *x <= x_max) {
            let at = x_of(*x);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
                TOP + HEIGHT,
                TOP + HEIGHT + 16.0
            );
        }
        for (class, line) in &self.lines {
            let mut path = String::new();
            for (n, (x, y)) in line.iter().enumerate() {
                let command = if n == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", x_of(*x), y_of(*y));
            }
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
        }
        svg + "</svg>\n"
    }
}

/// Round numbers from zero up to `highest`, about five.
fn ticks(highest: f64) -> Vec<f64> {
    if !highest.is_finite() || highest <= 0.0 {
        return vec![0.0];
    }
    let rough = highest / 5.0;
    let power = 10_f64.powi(rough.log10().floor() as i32);
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    // Through the number of the tick, and rounded: 3 * 0.1 is to read 0.3.
    let digits = (1.0 - step.log10()).max(0.0).ceil() as usize;
    (0..=(highest / step).floor() as u32)
        .map(|n| {
            format!("{:.digits$}", f64::from(n) * step)
                .parse()
                .unwrap_or(0.0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use opentelemetry::trace::TraceId;

    use super::*;
    use crate::outcome::{End, Failure, Outcome};
    use crate::summary::{Paced, Recorder};

    fn summary(requests: u32, route: &str) -> Summary {
        let begin = Instant::now();
        let mut recorder = Recorder::new(begin, &[format!("GET {route}")], &[]);
        for n in 0..requests {
            let intended = begin + Duration::from_millis(10) * n;
            let end = match n % 20 {
                0 => End::TimedOut,
                1 => End::Failed(Failure::Exchange, "<script>alert(1)</script>".to_owned()),
                _ => End::answered(200),
            };
            recorder.record(Outcome {
                intended,
                started: intended,
                ended: intended + Duration::from_millis(u64::from(n % 50)),
                end,
                trace: Some(TraceId::from_bytes([1; 16])),
                route: 0,
                arrival: true,
            });
        }
        let paced = Paced {
            planned: u64::from(requests),
            dropped: 0,
            span: Duration::from_millis(10) * requests,
            wanted_rate: 100.0,
        };
        recorder.finish(paced, false)
    }

    /// Whether every element that is opened is closed, in order.
    fn is_balanced(page: &str) -> bool {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag
                .split([' ', '/', '!'])
                .find(|part| !part.is_empty())
                .expect("a name");
            if tag.starts_with('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.starts_with('!') && !tag.ends_with('/') && name != "meta" {
                open.push(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn the_page_is_whole_and_asks_nobody_for_anything() {
        let mut summary = summary(1000, "/api/products");
        summary.thresholds = vec![
            "p99 < 1us"
                .parse::<crate::threshold::Threshold>()
                .expect("one")
                .check(&summary),
        ];
        let page = page(&summary);
        assert!(is_balanced(&page), "{page}");
        for needless in [
            "http://", "https://", "src=", "href=", "url(", "@import", "<script", "NaN", "inf",
        ] {
            assert!(!page.contains(needless), "{needless}");
        }
        for needed in [
            "light-dark(",
            "Latency over time",
            "Latency by percentile",
            "p99.9",
            "GET /api/products",
            "p99 &lt; 1us",
            "failed, measured",
            "&lt;script&gt;",
            "01010101010101010101010101010101",
        ] {
            assert!(page.contains(needed), "{needed}");
        }
        assert_eq!(page.matches("<path").count(), 7);
    }

    #[test]
    fn what_others_named_is_shown_and_not_run() {
        let page = page(&summary(30, "/<img onerror=\"x\">&"));
        assert!(is_balanced(&page));
        assert!(page.contains("GET /&lt;img onerror=&quot;x&quot;&gt;&amp;"));
    }

    #[test]
    fn nothing_measured_makes_a_page_too() {
        let page = page(&summary(0, "/"));
        assert!(is_balanced(&page) && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn ticks_are_round() {
        for (highest, expected) in [
            (10.0, vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
            (0.37, vec![0.0, 0.1, 0.2, 0.3]),
            (1234.0, vec![0.0, 500.0, 1000.0]),
            (0.0, vec![0.0]),
            (f64::NAN, vec![0.0]),
        ] {
            assert_eq!(ticks(highest), expected, "{highest}");
        }
    }
}
