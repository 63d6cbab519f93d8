//! Dashboards as Grafana keeps them: schema version 42, no more of it than ours use.
//!
//! The same types are written and read, so whatever reads the files (`lab verify`, the console, the
//! tests) sees exactly what was rendered. An unknown key is refused rather than overlooked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of Grafana's schema that the files are in.
pub const SCHEMA_VERSION: u32 = 42;

/// One file of `grafana/dashboards`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dashboard {
    /// What links name it by, `/d/<uid>`; never changed.
    pub uid: String,
    /// Its heading.
    pub title: String,
    /// The question it answers.
    pub description: String,
    /// What the dashboards find each other by.
    pub tags: Vec<String>,
    /// Always [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// False: the files are the truth, not what somebody clicked.
    pub editable: bool,
    /// 1: the crosshair of one panel is shown in all.
    pub graph_tooltip: u8,
    /// `browser`, `utc` or a name of the time zone database.
    pub timezone: String,
    /// How often it is drawn anew, as `10s`.
    pub refresh: String,
    /// What it shows when it is opened.
    pub time: TimeRange,
    /// What can be chosen above the panels.
    pub templating: Templating,
    /// What is marked in every graph.
    pub annotations: Annotations,
    /// Ways to other pages.
    pub links: Vec<Link>,
    /// Rows, and the panels between them.
    pub panels: Vec<Panel>,
}

impl Dashboard {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not JSON, or has what these types do not know.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// All panels that show something, those of collapsed rows included; rows themselves are not among them.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.panels
            .iter()
            .flat_map(|panel| std::iter::once(panel).chain(panel.panels.iter().flatten()))
            .filter(|panel| panel.kind != PanelKind::Row)
    }
}

/// From when to when, in Grafana's words: `now-1h`, `now`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRange {
    /// The beginning.
    pub from: String,
    /// The end.
    pub to: String,
}

/// The list of variables.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Templating {
    /// In the order in which they are shown; a later one may use an earlier one.
    pub list: Vec<Variable>,
}

/// Something that can be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variable {
    /// `$name` in queries.
    pub name: String,
    /// What people read.
    pub label: String,
    /// Where its values come from.
    #[serde(rename = "type")]
    pub kind: VariableKind,
    /// Who is asked for the values of a [`VariableKind::Query`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datasource: Option<DataSource>,
    /// The kind of data source, or what is asked; see [`Variable::query`].
    pub query: Value,
    /// Several at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub multi: bool,
    /// Offers `All`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_all: bool,
    /// What `All` stands for in a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_value: Option<String>,
    /// What is chosen at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Chosen>,
    /// 2: asked again when the time range changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<u8>,
    /// 1: by the alphabet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<u8>,
}

impl Variable {
    /// What is asked for its values, `label_values(up, job)`; of a data source its kind, `prometheus`.
    #[must_use]
    pub fn query(&self) -> &str {
        self.query
            .as_str()
            .or_else(|| self.query["query"].as_str())
            .unwrap_or("")
    }
}

/// Where a variable's values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// The data sources of a kind.
    Datasource,
    /// A query.
    Query,
}

/// What is chosen of a variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// What people read.
    pub text: Value,
    /// What is meant; `$__all` is all.
    pub value: Value,
}

/// The list of annotations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// All are drawn, each in its colour.
    pub list: Vec<Annotation>,
}

/// Events that are marked in every graph: the times at which a query has values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Annotation {
    /// Shown above the panels, where it can be switched off.
    pub name: String,
    /// Who is asked.
    pub datasource: DataSource,
    /// Drawn from the start.
    pub enable: bool,
    /// Of the marks.
    pub icon_color: String,
    /// What is asked.
    pub target: AnnotationTarget,
    /// Heading of one event, with labels as `{{alertname}}`.
    pub title_format: String,
    /// Text of one event.
    pub text_format: String,
    /// Labels that become its tags, separated by commas.
    pub tag_keys: String,
}

/// The query of an annotation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnnotationTarget {
    /// Always `Anno`.
    pub ref_id: String,
    /// PromQL.
    pub expr: String,
}

/// A way to another page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Link {
    /// What people read.
    pub title: String,
    /// To a page, or to all dashboards with a tag.
    #[serde(rename = "type")]
    pub kind: LinkKind,
    /// The tags, for [`LinkKind::Dashboards`].
    pub tags: Vec<String>,
    /// The page, for [`LinkKind::Link`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What else it says.
    pub tooltip: String,
    /// `external link`, `dashboard`, `doc`.
    pub icon: String,
    /// A menu rather than a row of buttons.
    pub as_dropdown: bool,
    /// Keeps the time range.
    pub keep_time: bool,
    /// Keeps what is chosen.
    pub include_vars: bool,
    /// In a new tab.
    pub target_blank: bool,
}

/// Where a link leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// To one page.
    Link,
    /// To every dashboard that has the tags.
    Dashboards,
}

/// A data source, as a rule named by a variable: `${prometheus_datasource}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSource {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: DataSourceKind,
    /// Which one.
    pub uid: String,
}

/// The kinds of data sources, by the names of Grafana's plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataSourceKind {
    /// Metrics.
    Prometheus,
    /// Logs.
    Elasticsearch,
    /// Traces.
    Jaeger,
}

/// A row or a panel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Panel {
    /// Unique in the dashboard.
    pub id: u32,
    /// How it is drawn.
    #[serde(rename = "type")]
    pub kind: PanelKind,
    /// Its heading.
    pub title: String,
    /// What it says and when to worry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where it is.
    pub grid_pos: GridPosition,
    /// Who is asked, unless a target says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datasource: Option<DataSource>,
    /// What is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// How values are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_config: Option<FieldConfig>,
    /// What its kind has of its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// What is done to the answers before they are shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transformations: Vec<Transformation>,
    /// The shortest step between two points, as `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Points asked for at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_points: Option<u32>,
    /// Of a row: its panels are hidden until it is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapsed: Option<bool>,
    /// Of a collapsed row: what is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panels: Option<Vec<Panel>>,
}

impl Panel {
    /// How values are shown, defaults where the panel says nothing.
    #[must_use]
    pub fn field(&self) -> FieldDefaults {
        self.field_config
            .as_ref()
            .map(|config| config.defaults.clone())
            .unwrap_or_default()
    }
}

/// How a panel is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PanelKind {
    /// A heading over the panels that follow.
    Row,
    /// Lines over time.
    Timeseries,
    /// A number, as a rule with a line behind it.
    Stat,
    /// A number on a dial.
    Gauge,
    /// Numbers as bars.
    Bargauge,
    /// Rows and columns.
    Table,
    /// Counts by time and size.
    Heatmap,
    /// Log lines.
    Logs,
    /// Words.
    Text,
}

/// A place on the grid of 24 columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridPosition {
    /// Columns wide.
    pub w: u32,
    /// Rows high, of 30 pixels.
    pub h: u32,
    /// Column of its left edge.
    pub x: u32,
    /// Row of its upper edge.
    pub y: u32,
}

/// One query of a panel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Unique in the panel: A, B, C.
    pub ref_id: String,
    /// Who is asked.
    pub datasource: DataSource,
    /// What is asked.
    #[serde(flatten)]
    pub query: Query,
}

/// A query, in the language of its data source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Query {
    /// PromQL.
    Prometheus(PrometheusQuery),
    /// Log lines, or how many there were.
    Elasticsearch(ElasticsearchQuery),
    /// A search for traces.
    Jaeger(JaegerQuery),
}

/// PromQL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusQuery {
    /// The expression, with variables.
    pub expr: String,
    /// Name of a series, with labels as `{{route}}`; empty: all its labels.
    #[serde(default)]
    pub legend_format: String,
    /// How the answer is read.
    #[serde(default)]
    pub format: Format,
    /// Only the value at the end of the range.
    #[serde(default)]
    pub instant: bool,
    /// Values over the range.
    #[serde(default)]
    pub range: bool,
    /// Points that lead to traces as well.
    #[serde(default)]
    pub exemplar: bool,
    /// `code`: shown as written when somebody looks at it.
    #[serde(default)]
    pub editor_mode: String,
}

/// How an answer of Prometheus is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A series a line.
    #[default]
    TimeSeries,
    /// A label a column.
    Table,
    /// `le` is the size.
    Heatmap,
}

/// Log lines by Lucene's syntax.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElasticsearchQuery {
    /// Which lines, with variables.
    pub query: String,
    /// The field that has a line's time.
    pub time_field: String,
    /// What is made of the lines: one of them, `logs` or `count`.
    pub metrics: Vec<Metric>,
    /// What they are counted by, from the outside in.
    #[serde(default)]
    pub bucket_aggs: Vec<BucketAggregation>,
    /// Name of a series, with fields as `{{term log.level}}`; empty: Grafana's choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub alias: String,
}

/// What is made of log lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Unique in the query.
    pub id: String,
    /// `logs`: the lines; `count`: how many.
    #[serde(rename = "type")]
    pub kind: MetricKind,
    /// For logs: `limit`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// The two things made of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// The lines themselves.
    Logs,
    /// Their number.
    Count,
}

/// What log lines are counted by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BucketAggregation {
    /// Unique in the query.
    pub id: String,
    /// By value or by time.
    #[serde(rename = "type")]
    pub kind: BucketKind,
    /// Of which field.
    pub field: String,
    /// `size`, `order` and `orderBy`; `interval`, `min_doc_count`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// By value or by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BucketKind {
    /// A bucket for each value.
    Terms,
    /// A bucket for each step of time.
    DateHistogram,
}

/// A search for traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JaegerQuery {
    /// Always `search`.
    pub query_type: String,
    /// Whose traces, with variables.
    pub service: String,
    /// Which of its operations; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// `key=value` words; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tags: String,
    /// The shortest shown, as `100ms`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub min_duration: String,
    /// Traces at most.
    pub limit: u32,
}

/// How values are shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// Of all fields.
    pub defaults: FieldDefaults,
    /// Of some.
    pub overrides: Vec<Override>,
}

/// How values of a field are shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldDefaults {
    /// One of Grafana's unit ids, `reqps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Digits behind the point; otherwise as many as are useful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decimals: Option<u8>,
    /// Where the axis or dial begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Where it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// What is shown instead of no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_value: Option<String>,
    /// Where the colour comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<FieldColor>,
    /// From which value on which colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// Words for values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Where a click leads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<DataLink>,
    /// What the panel's kind has of its own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub custom: Map<String, Value>,
}

impl FieldDefaults {
    /// The words and the colour that a value is shown with, where a mapping says so.
    #[must_use]
    pub fn mapped(&self, value: f64) -> Option<&MappingResult> {
        self.mappings
            .iter()
            .find_map(|mapping| mapping.result(value))
    }
}

/// Where a colour comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldColor {
    /// `thresholds`, `palette-classic`, `fixed`.
    pub mode: String,
    /// For `fixed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_color: Option<String>,
}

/// From which value on which colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Always `absolute`.
    pub mode: String,
    /// Ascending; the first has no value and holds below the second.
    pub steps: Vec<Step>,
}

impl Thresholds {
    /// The colour of a value.
    #[must_use]
    pub fn color(&self, value: f64) -> Option<&str> {
        self.steps
            .iter()
            .rev()
            .find(|step| step.value.is_none_or(|from| value >= from))
            .map(|step| step.color.as_str())
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A name of Grafana's palette.
    pub color: String,
    /// From here on; `None`: from the beginning.
    pub value: Option<f64>,
}

/// Words for values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "options", rename_all = "lowercase")]
pub enum Mapping {
    /// For exactly these.
    Value(BTreeMap<String, MappingResult>),
    /// For all between two.
    Range {
        /// From here, inclusive.
        from: Option<f64>,
        /// To here, inclusive.
        to: Option<f64>,
        /// The words.
        result: MappingResult,
    },
}

impl Mapping {
    fn result(&self, value: f64) -> Option<&MappingResult> {
        match self {
            Self::Value(words) => words.get(&value.to_string()),
            Self::Range { from, to, result } => (from.is_none_or(|from| value >= from)
                && to.is_none_or(|to| value <= to))
            .then_some(result),
        }
    }
}

/// What is shown instead of a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingResult {
    /// The words.
    pub text: String,
    /// Their colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
    /// Place among the mappings.
    pub index: u32,
}

/// Where a click on a value leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataLink {
    /// What people read.
    pub title: String,
    /// With variables as `${__field.labels.route}`.
    pub url: String,
    /// In a new tab.
    #[serde(default, skip_serializing_if = "is_false")]
    pub target_blank: bool,
}

/// Other settings for some fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Which fields.
    pub matcher: Matcher,
    /// What is set: `unit`, `thresholds`, `custom.width`.
    pub properties: Vec<Property>,
}

/// Which fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matcher {
    /// `byName`, `byRegexp`, `byFrameRefID`.
    pub id: String,
    /// The name.
    pub options: Value,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Its name.
    pub id: String,
    /// What it is set to.
    pub value: Value,
}

/// What is done to answers before they are shown: `merge`, `organize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformation {
    /// What.
    pub id: String,
    /// How.
    pub options: Value,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_the_colour_of_the_last_step_it_has_reached() {
        let step = |color: &str, value| Step {
            color: color.into(),
            value,
        };
        let thresholds = Thresholds {
            mode: "absolute".into(),
            steps: vec![
                step("green", None),
                step("yellow", Some(0.5)),
                step("red", Some(1.0)),
            ],
        };
        for (value, color) in [
            (-1.0, "green"),
            (0.499, "green"),
            (0.5, "yellow"),
            (1.0, "red"),
            (9.0, "red"),
        ] {
            assert_eq!(thresholds.color(value), Some(color), "{value}");
        }
    }

    #[test]
    fn words_stand_for_a_value_or_a_range() {
        let words = |text: &str, index| MappingResult {
            text: text.into(),
            color: None,
            index,
        };
        let field = FieldDefaults {
            mappings: vec![
                Mapping::Value([("0".to_owned(), words("down", 0))].into()),
                Mapping::Range {
                    from: Some(0.0),
                    to: Some(0.99),
                    result: words("in part", 1),
                },
            ],
            ..FieldDefaults::default()
        };
        let text = |value| field.mapped(value).map(|result| result.text.as_str());
        assert_eq!(text(0.0), Some("down"));
        assert_eq!(text(0.5), Some("in part"));
        assert_eq!(text(1.0), None);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let error =
            serde_json::from_str::<GridPosition>(r#"{"w":1,"h":1,"x":0,"y":0,"z":1}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `z`"), "{error}");
    }
}
