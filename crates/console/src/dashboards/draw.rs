//! From what was asked to the picture that a panel is.

use std::{collections::BTreeMap, ops::Range};

use dashboards::{
    model::{Panel, PanelKind, Query, Target},
    query::{self, Context},
};
use maud::{Markup, PreEscaped, html};
use plots::{
    Annotation, Axis, Bucket, Calc, Cell, Column, Heatmap, Legend, Logs, Painted, Single, Stacking,
    Table, TimeSeries, Value as Shown,
};
use pulldown_cmark::{Event as Word, Options, Parser};
use serde_json::Value;

use super::{
    ask::{Answer, Asked, Exemplar},
    field::{self, Field},
};
use crate::{
    explore,
    jaeger::{self, Trace},
    prometheus::{Labels, Sample, Series},
};

/// What a panel is drawn with.
pub(crate) struct Drawing<'a> {
    pub(crate) panel: &'a Panel,
    pub(crate) asked: &'a [Asked],
    pub(crate) context: &'a Context,
    pub(crate) times: Range<f64>,
    pub(crate) annotations: &'a [Annotation],
}

impl Drawing<'_> {
    /// The picture, and before it whatever could not be had.
    pub(crate) fn draw(&self) -> Markup {
        let troubles: Vec<&str> = self
            .asked
            .iter()
            .filter_map(|it| Some(it.answer.as_ref().err()?.as_str()))
            .collect();
        let nothing = !troubles.is_empty() && troubles.len() == self.asked.len();
        let unapplied = field::unapplied(self.panel);
        let mut told: Vec<&str> = Vec::new();
        for trouble in troubles {
            if !told.contains(&trouble) {
                told.push(trouble);
            }
        }
        html! {
            @for trouble in &told { p.trouble role="status" { (trouble) } }
            @if !nothing { (self.picture()) }
            @for id in unapplied { p.plot-note { "An override " code { (id) } " is not applied here." } }
        }
    }

    fn picture(&self) -> Markup {
        match self.panel.kind {
            PanelKind::Row => html! {},
            PanelKind::Timeseries => self.time_series(),
            PanelKind::Stat => self.single().stat(),
            PanelKind::Gauge => self.single().gauge(),
            PanelKind::Bargauge => self.single().bars(),
            PanelKind::Heatmap => self.heatmap(),
            PanelKind::Table => self.table(),
            PanelKind::Logs => self.logs(),
            PanelKind::Text => self.words(),
        }
    }

    fn answers(&self) -> impl Iterator<Item = (&Asked, &Target, &Answer)> {
        self.asked.iter().filter_map(|asked| {
            let target = self
                .panel
                .targets
                .iter()
                .find(|it| it.ref_id == asked.ref_id)?;
            Some((asked, target, asked.answer.as_ref().ok()?))
        })
    }

    fn option(&self, pointer: &str) -> &Value {
        let (first, rest) = pointer.split_once('.').unwrap_or((pointer, ""));
        let found = self.panel.options.get(first).unwrap_or(&Value::Null);
        rest.split('.')
            .filter(|it| !it.is_empty())
            .fold(found, |found, name| &found[name])
    }

    fn time_series(&self) -> Markup {
        let defaults = Field {
            set: self.panel.field(),
            name: None,
        };
        let step = self.context.step.as_secs_f64();
        let mut plot = TimeSeries {
            name: self.panel.title.clone(),
            times: self.times.clone(),
            format: defaults.format(),
            min: defaults.set.min,
            max: defaults.set.max,
            fill: defaults.custom("fillOpacity").as_f64().unwrap_or(0.0) / 100.0,
            stacking: match defaults.custom("stacking.mode").as_str() {
                Some("normal") => Stacking::Sum,
                Some("percent") => Stacking::Share,
                _ => Stacking::Off,
            },
            points_only: defaults.custom("drawStyle") == "points",
            bars: defaults.custom("drawStyle") == "bars",
            gap: (defaults.custom("spanNulls") != true).then_some(step * 1.5),
            annotations: self.annotations.to_vec(),
            legend: self.legend(),
            ..TimeSeries::default()
        };
        if matches!(defaults.custom("thresholdsStyle.mode").as_str(), Some(mode) if mode != "off") {
            plot.thresholds = defaults.thresholds();
        }
        for (asked, target, answer) in self.answers() {
            let Answer::Series(series, exemplars) = answer else {
                continue;
            };
            for it in series {
                let name = series_name(target, &it.labels);
                let field = field::of(self.panel, &name, &asked.ref_id);
                let right = field.custom("axisPlacement") == "right";
                if right {
                    plot.right = Axis {
                        format: field.format(),
                        min: field.set.min,
                        max: field.set.max,
                    };
                }
                plot.series.push(plots::Series {
                    name: field.name.clone().unwrap_or(name),
                    points: it.points.clone(),
                    colour: field.fixed(),
                    dashed: field.custom("lineStyle.fill") == "dash",
                    right,
                });
            }
            plot.exemplars.extend(self.exemplars(exemplars));
        }
        plot.draw()
    }

    fn legend(&self) -> Legend {
        let shown = self.option("legend.showLegend") != false;
        match self.option("legend.displayMode").as_str() {
            _ if !shown => Legend::Hidden,
            Some("hidden") => Legend::Hidden,
            Some("table") => Legend::Table(calcs(self.option("legend.calcs"))),
            _ => Legend::List,
        }
    }

    fn exemplars(&self, of: &[Exemplar]) -> Vec<plots::Exemplar> {
        let format = Field {
            set: self.panel.field(),
            name: None,
        }
        .format();
        let links = of.iter().map(|it| plots::Exemplar {
            at: it.at,
            value: it.value,
            href: jaeger::page(&it.trace),
            label: format!("{}: trace {}", format.show(Some(it.value)), it.trace),
        });
        links.collect()
    }

    fn single(&self) -> Single {
        let calc = calcs(self.option("reduceOptions.calcs"))
            .first()
            .copied()
            .unwrap_or(Calc::Last);
        let defaults = Field {
            set: self.panel.field(),
            name: None,
        };
        let courses = self.option("graphMode") == "area";
        let only_name = self.option("textMode") == "name";
        let mut single = Single {
            name: self.panel.title.clone(),
            format: defaults.format(),
            thresholds: match defaults.fixed() {
                Some(colour) => plots::Thresholds::new(vec![(f64::NEG_INFINITY, Some(colour))]),
                None => defaults.thresholds(),
            },
            painted: match self.option("colorMode").as_str() {
                Some("none") => Painted::Nothing,
                Some("background" | "background_solid") => Painted::Background,
                _ => Painted::Text,
            },
            min: defaults.set.min,
            max: defaults.set.max,
            named: self.option("textMode") == "value_and_name"
                || self.panel.kind == PanelKind::Bargauge,
            ..Single::default()
        };
        let mut add =
            |asked: &Asked, target: &Target, labels: &Labels, value, course: &[(f64, f64)]| {
                let name = series_name(target, labels);
                let field = field::of(self.panel, &name, &asked.ref_id);
                let name = field.name.unwrap_or(name);
                single.values.push(Shown {
                    text: only_name.then(|| name.clone()),
                    name,
                    value,
                    course: if courses { course.to_vec() } else { Vec::new() },
                });
            };
        for (asked, target, answer) in self.answers() {
            match answer {
                Answer::Series(series, _) => {
                    for it in series {
                        add(asked, target, &it.labels, calc.of(&it.points), &it.points);
                    }
                }
                Answer::Samples(samples) | Answer::Counted(samples) => {
                    for it in samples {
                        add(asked, target, &it.labels, Some(it.value), &[]);
                    }
                }
                Answer::Lines(found) => {
                    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 log lines")]
                    let total = found.total as f64;
                    add(asked, target, &Labels::new(), Some(total), &[]);
                }
                Answer::Traces(_) => {}
            }
        }
        single
    }

    fn heatmap(&self) -> Markup {
        let defaults = Field {
            set: self.panel.field(),
            name: None,
        };
        let mut format = defaults.format();
        if let Some(unit) = self.option("yAxis.unit").as_str() {
            format.unit = plots::Unit::parse(unit);
        }
        let mut buckets: Vec<Bucket> = Vec::new();
        let mut exemplars = Vec::new();
        for (_, _, answer) in self.answers() {
            let Answer::Series(series, found) = answer else {
                continue;
            };
            for it in series {
                let upper = it.labels.get("le").and_then(|le| le.parse().ok());
                let Some(upper) = upper else { continue };
                match buckets.iter_mut().find(|it| it.upper == upper) {
                    Some(bucket) => add_up(&mut bucket.counts, &it.points),
                    None => buckets.push(Bucket {
                        upper,
                        counts: it.points.clone(),
                    }),
                }
            }
            exemplars.extend(self.exemplars(found));
        }
        let plot = Heatmap {
            name: self.panel.title.clone(),
            times: self.times.clone(),
            step: self.context.step.as_secs_f64(),
            buckets,
            format,
            exemplars,
        };
        plot.draw()
    }

    fn logs(&self) -> Markup {
        let lines = self.answers().flat_map(|(_, _, answer)| match answer {
            Answer::Lines(found) => found.lines.clone(),
            _ => Vec::new(),
        });
        Logs {
            name: self.panel.title.clone(),
            lines: lines.collect(),
        }
        .draw()
    }

    fn words(&self) -> Markup {
        let content = self.option("content").as_str().unwrap_or_default();
        let content =
            query::plain_text(content, self.context).unwrap_or_else(|_| content.to_owned());
        if self.option("mode") != "markdown" {
            return html! { div.words { p { (content) } } };
        }
        html! { div.words { (PreEscaped(markdown(&content))) } }
    }

    fn table(&self) -> Markup {
        let traces: Vec<Trace> = self
            .answers()
            .flat_map(|(_, _, answer)| match answer {
                Answer::Traces(traces) => traces.clone(),
                _ => Vec::new(),
            })
            .collect();
        let asks_for_traces = |it: &Target| matches!(it.query, Query::Jaeger(_));
        if self.panel.targets.iter().any(asks_for_traces) {
            return explore::traces_table(&self.panel.title, &traces);
        }
        let mut grid = Grid::default();
        let several = self.panel.targets.len() > 1;
        for (asked, _, answer) in self.answers() {
            let value = match several {
                true => format!("Value #{}", asked.ref_id),
                false => "Value".to_owned(),
            };
            match answer {
                Answer::Samples(samples) | Answer::Counted(samples) => {
                    for it in samples {
                        grid.put(&it.labels, &value, it.value);
                    }
                }
                Answer::Series(series, _) => {
                    for sample in series.iter().filter_map(newest) {
                        grid.put(&sample.labels, &value, sample.value);
                    }
                }
                Answer::Lines(_) | Answer::Traces(_) => {}
            }
        }
        self.organized(&grid).draw()
    }

    /// The columns that `organize` leaves, in its order and under its names.
    fn organized(&self, grid: &Grid) -> Table {
        let organize = self
            .panel
            .transformations
            .iter()
            .find(|it| it.id == "organize");
        let setting = |name: &str| organize.map_or(&Value::Null, |it| &it.options[name]);
        let (out, index, names) = (
            setting("excludeByName"),
            setting("indexByName"),
            setting("renameByName"),
        );
        let mut columns: Vec<&String> = grid
            .columns
            .iter()
            .filter(|it| out[it.as_str()] != true)
            .collect();
        columns.sort_by_key(|it| index[it.as_str()].as_u64().unwrap_or(u64::MAX));
        let fields: Vec<(String, Field)> = columns
            .iter()
            .map(|column| {
                let named = names[column.as_str()].as_str().unwrap_or(column).to_owned();
                let ref_id = column.strip_prefix("Value #").unwrap_or_default();
                let field = field::of(self.panel, &named, ref_id);
                (field.name.clone().unwrap_or(named), field)
            })
            .collect();
        let rows = grid.rows.iter().map(|row| {
            let cells = columns.iter().map(|column| match row.get(*column) {
                None => Cell::Empty,
                Some(Ok(number)) => Cell::Number(*number),
                Some(Err(text)) => Cell::Text(text.clone()),
            });
            cells.collect()
        });
        Table {
            name: self.panel.title.clone(),
            rows: rows.collect(),
            columns: fields
                .into_iter()
                .map(|(name, field)| Column {
                    name,
                    format: field.format(),
                    thresholds: field.thresholds(),
                    painted: match field.custom("cellOptions.type").as_str() {
                        Some("color-background") => Painted::Background,
                        Some("color-text") => Painted::Text,
                        _ => Painted::Nothing,
                    },
                })
                .collect(),
            empty: self.panel.field().no_value,
        }
    }
}

/// Rows by their labels; what several queries say of the same labels is one row.
#[derive(Debug, Default)]
struct Grid {
    columns: Vec<String>,
    rows: Vec<BTreeMap<String, Result<f64, String>>>,
    by_labels: BTreeMap<Labels, usize>,
}

impl Grid {
    fn put(&mut self, labels: &Labels, column: &str, value: f64) {
        for name in labels.keys().map(String::as_str).chain([column]) {
            if !self.columns.iter().any(|it| it == name) {
                self.columns.push(name.to_owned());
            }
        }
        let at = *self.by_labels.entry(labels.clone()).or_insert_with(|| {
            let texts = labels
                .iter()
                .map(|(name, text)| (name.clone(), Err(text.clone())));
            self.rows.push(texts.collect());
            self.rows.len() - 1
        });
        self.rows[at].insert(column.to_owned(), Ok(value));
    }
}

fn newest(series: &Series) -> Option<Sample> {
    let (_, value) = series.points.last()?;
    Some(Sample {
        labels: series.labels.clone(),
        value: *value,
    })
}

fn add_up(to: &mut [(f64, f64)], points: &[(f64, f64)]) {
    for (at, value) in to {
        let same = points.iter().find(|it| (it.0 - *at).abs() < 1e-3);
        *value += same.map_or(0.0, |it| it.1);
    }
}

fn calcs(of: &Value) -> Vec<Calc> {
    let names = of.as_array().into_iter().flatten();
    names.filter_map(|it| Calc::parse(it.as_str()?)).collect()
}

/// The name of a series, as its query wants it: `{{route}}` of `legendFormat`, `{{term log.level}}` of `alias`.
fn series_name(target: &Target, labels: &Labels) -> String {
    let format = match &target.query {
        Query::Prometheus(query) => query.legend_format.as_str(),
        Query::Elasticsearch(query) => query.alias.as_str(),
        Query::Jaeger(_) => "",
    };
    if format.is_empty() || format == "__auto" {
        return match (labels.len(), labels.iter().next()) {
            (0, _) => "Value".into(),
            // What Grafana calls automatic: one label stands for all of them.
            (1, Some((_, only))) => only.clone(),
            _ => explore::written(labels),
        };
    }
    filled(format, labels)
}

/// Puts labels in the place of `{{name}}`.
pub(crate) fn filled(format: &str, labels: &Labels) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((name, behind)) = after.split_once("}}") else {
            rest = &rest[before.len()..];
            break;
        };
        let name = name.trim();
        let name = name.strip_prefix("term ").unwrap_or(name);
        text.push_str(labels.get(name).map_or("", String::as_str));
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// Markdown without the HTML that it may hold: that becomes text.
fn markdown(text: &str) -> String {
    let words = Parser::new_ext(text, Options::ENABLE_TABLES).map(|word| match word {
        Word::Html(text) | Word::InlineHtml(text) => Word::Text(text),
        Word::Start(pulldown_cmark::Tag::Link {
            dest_url,
            link_type,
            title,
            id,
        }) => {
            let safe = ["https://", "http://", "/", "#"]
                .iter()
                .any(|it| dest_url.starts_with(it));
            let dest_url = if safe { dest_url } else { "#".into() };
            Word::Start(pulldown_cmark::Tag::Link {
                dest_url,
                link_type,
                title,
                id,
            })
        }
        other => other,
    });
    let mut page = String::new();
    pulldown_cmark::html::push_html(&mut page, words);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn labels_take_the_place_of_their_names() {
        let labels = labels(&[
            ("route", "/api/{{x}}"),
            ("method", "GET"),
            ("log.level", "warn"),
        ]);
        for (format, text) in [
            ("{{method}} {{ route }}", "GET /api/{{x}}"),
            ("p95", "p95"),
            ("{{none}}!", "!"),
            ("{{term log.level}}", "warn"),
            ("a {{method", "a {{method"),
        ] {
            assert_eq!(filled(format, &labels), text);
        }
    }

    #[test]
    fn what_several_queries_say_of_the_same_is_one_row() {
        let mut grid = Grid::default();
        grid.put(&labels(&[("pod", "a")]), "Value #A", 1.0);
        grid.put(&labels(&[("pod", "b")]), "Value #A", 2.0);
        grid.put(&labels(&[("pod", "a")]), "Value #B", 3.0);
        assert_eq!(grid.columns, ["pod", "Value #A", "Value #B"]);
        assert_eq!(grid.rows.len(), 2);
        assert_eq!(grid.rows[0]["Value #B"], Ok(3.0));
        assert!(!grid.rows[1].contains_key("Value #B"));
    }

    #[test]
    fn markdown_holds_no_html() {
        let page = markdown(
            "**bold** <script>alert(1)</script>\n\n<img src=x onerror=y>\n\n[x](javascript:alert(1))",
        );
        assert!(page.contains("<strong>bold</strong>"), "{page}");
        assert!(
            !page.contains("<script") && !page.contains("<img") && !page.contains("javascript"),
            "{page}"
        );
    }
}
