//! How dashboards are written: a page that grows panel by panel, and panels that say only what is theirs.

use serde_json::{Map, Value, json};

use crate::{
    TAG,
    model::{
        Annotation, AnnotationTarget, Annotations, BucketAggregation, BucketKind, Chosen,
        Dashboard, DataLink, DataSource, DataSourceKind, ElasticsearchQuery, FieldColor,
        FieldConfig, Format, GridPosition, JaegerQuery, Link, LinkKind, Mapping, MappingResult,
        Matcher, Metric, MetricKind, Override, Panel, PanelKind, PrometheusQuery, Property, Query,
        SCHEMA_VERSION, Step, Target, Templating, Thresholds, TimeRange, Transformation, Variable,
        VariableKind,
    },
    query::ALL,
};

/// Columns of Grafana's grid.
const WIDTH: u32 = 24;

/// The data source of a kind, whichever is chosen.
pub(crate) fn source(kind: DataSourceKind) -> DataSource {
    DataSource {
        kind,
        uid: format!("${{{}_datasource}}", plugin(kind)),
    }
}

fn plugin(kind: DataSourceKind) -> &'static str {
    match kind {
        DataSourceKind::Prometheus => "prometheus",
        DataSourceKind::Elasticsearch => "elasticsearch",
        DataSourceKind::Jaeger => "jaeger",
    }
}

/// A dashboard in the making.
pub(crate) struct Page {
    dashboard: Dashboard,
    x: u32,
    y: u32,
    /// Height of the line that is being filled.
    line: u32,
}

impl Page {
    pub(crate) fn new(uid: &str, title: &str, description: &str, range: &str) -> Self {
        let dashboard = Dashboard {
            uid: uid.into(),
            title: title.into(),
            description: description.into(),
            tags: vec![TAG.into()],
            schema_version: SCHEMA_VERSION,
            editable: false,
            graph_tooltip: 1,
            timezone: "browser".into(),
            refresh: "10s".into(),
            time: TimeRange {
                from: range.into(),
                to: "now".into(),
            },
            templating: Templating::default(),
            annotations: Annotations {
                list: annotations(),
            },
            links: vec![Link {
                title: "Dashboards".into(),
                kind: LinkKind::Dashboards,
                tags: vec![TAG.into()],
                url: None,
                tooltip: "The other dashboards, at the same time".into(),
                icon: "dashboard".into(),
                as_dropdown: false,
                keep_time: true,
                include_vars: false,
                target_blank: false,
            }],
            panels: Vec::new(),
        };
        let mut page = Self {
            dashboard,
            x: 0,
            y: 0,
            line: 0,
        };
        page.data_source(DataSourceKind::Prometheus);
        page
    }

    /// Lets people choose the data source of a kind.
    pub(crate) fn data_source(&mut self, kind: DataSourceKind) {
        let plugin = plugin(kind);
        let mut title = plugin.to_owned();
        title[..1].make_ascii_uppercase();
        self.dashboard.templating.list.push(Variable {
            name: format!("{plugin}_datasource"),
            label: format!("{title} data source"),
            kind: VariableKind::Datasource,
            datasource: None,
            query: plugin.into(),
            multi: false,
            include_all: false,
            all_value: None,
            // The one that grafana/datasources provisions.
            current: Some(Chosen {
                text: title.into(),
                value: plugin.into(),
            }),
            refresh: Some(1),
            sort: None,
        });
    }

    /// Lets people choose among the values of a label; all at first. `all` matches what may have none.
    pub(crate) fn variable(&mut self, name: &str, label: &str, query: &str, all: &str) {
        self.dashboard.templating.list.push(Variable {
            name: name.into(),
            label: label.into(),
            kind: VariableKind::Query,
            datasource: Some(source(DataSourceKind::Prometheus)),
            query: json!({ "qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery" }),
            multi: true,
            include_all: true,
            all_value: Some(all.into()),
            current: Some(Chosen {
                text: json!(["All"]),
                value: json!([ALL]),
            }),
            refresh: Some(2),
            sort: Some(1),
        });
    }

    /// A heading over what follows.
    pub(crate) fn row(&mut self, title: &str) {
        self.new_line();
        let id = self.next_id();
        self.dashboard.panels.push(Panel {
            id,
            kind: PanelKind::Row,
            title: title.into(),
            description: String::new(),
            grid_pos: GridPosition {
                w: WIDTH,
                h: 1,
                x: 0,
                y: self.y,
            },
            datasource: None,
            targets: vec![],
            field_config: None,
            options: Map::new(),
            transformations: vec![],
            interval: None,
            max_data_points: None,
            collapsed: Some(false),
            panels: Some(vec![]),
        });
        self.y += 1;
    }

    /// A panel of this size, beside the last one where it fits.
    pub(crate) fn put(&mut self, w: u32, h: u32, draft: Draft) {
        if self.x + w > WIDTH {
            self.new_line();
        }
        let mut panel = draft.panel;
        panel.id = self.next_id();
        panel.grid_pos = GridPosition {
            w,
            h,
            x: self.x,
            y: self.y,
        };
        self.dashboard.panels.push(panel);
        self.x += w;
        self.line = self.line.max(h);
    }

    pub(crate) fn finish(self) -> Dashboard {
        self.dashboard
    }

    fn new_line(&mut self) {
        self.x = 0;
        self.y += std::mem::take(&mut self.line);
    }

    fn next_id(&self) -> u32 {
        self.dashboard
            .panels
            .iter()
            .map(|panel| panel.id + 1)
            .max()
            .unwrap_or(1)
    }
}

/// What is marked in every graph of every dashboard.
fn annotations() -> Vec<Annotation> {
    let mark =
        |name: &str, color: &str, expr: &str, title: &str, text: &str, tags: &str| Annotation {
            name: name.into(),
            datasource: source(DataSourceKind::Prometheus),
            enable: true,
            icon_color: color.into(),
            target: AnnotationTarget {
                ref_id: "Anno".into(),
                expr: expr.into(),
            },
            title_format: title.into(),
            text_format: text.into(),
            tag_keys: tags.into(),
        };
    vec![
        mark(
            "Alerts",
            "red",
            r#"ALERTS{alertstate="firing", severity!="none"}"#,
            "{{alertname}}",
            "{{service}} {{instance}}",
            "severity,service",
        ),
        // A version that was not there a minute ago.
        mark(
            "Deployments",
            "blue",
            "count by (service, version, commit) (flask_app_info) unless count by (service, version, commit) (flask_app_info offset 1m)",
            "{{service}} {{version}}",
            "commit {{commit}}",
            "service,version",
        ),
        mark(
            "Faults on purpose",
            "purple",
            "max by (service, fault) (flask_chaos_active) == 1 or max by (service, fault) (payments_chaos_active) == 1",
            "{{fault}}",
            "lab chaos on {{service}}",
            "fault,service",
        ),
    ]
}

/// A panel in the making.
pub(crate) struct Draft {
    panel: Panel,
}

impl Draft {
    fn new(kind: PanelKind, title: &str, description: &str, options: Value) -> Self {
        let Value::Object(options) = options else {
            unreachable!("options are written here, as objects")
        };
        Self {
            panel: Panel {
                id: 0,
                kind,
                title: title.into(),
                description: description.into(),
                grid_pos: GridPosition {
                    w: 0,
                    h: 0,
                    x: 0,
                    y: 0,
                },
                datasource: None,
                targets: vec![],
                field_config: Some(FieldConfig::default()),
                options,
                transformations: vec![],
                interval: None,
                max_data_points: None,
                collapsed: None,
                panels: None,
            },
        }
    }

    /// Lines over time.
    pub(crate) fn timeseries(title: &str, unit: &str, description: &str) -> Self {
        let draft = Self::new(
            PanelKind::Timeseries,
            title,
            description,
            json!({
                "legend": { "calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
        );
        draft
            .custom("drawStyle", "line")
            .custom("lineWidth", 1)
            .custom("fillOpacity", 10)
            .custom("showPoints", "never")
            // Prometheus was not asked, or had nothing: no line, rather than one that says otherwise.
            .custom("spanNulls", false)
            .unit(unit)
            .color("palette-classic")
    }

    /// A number with its course behind it.
    pub(crate) fn stat(title: &str, unit: &str, description: &str) -> Self {
        Self::new(
            PanelKind::Stat,
            title,
            description,
            json!({
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "percentChangeColorMode": "standard", "showPercentChange": false, "textMode": "auto", "wideLayout": true,
                "reduceOptions": reduce(),
            }),
        )
        .unit(unit)
        .color("thresholds")
    }

    /// A number on a dial.
    pub(crate) fn gauge(title: &str, unit: &str, description: &str) -> Self {
        Self::new(
            PanelKind::Gauge,
            title,
            description,
            json!({
                "barShape": "flat", "barWidthFactor": 0.4, "effects": {}, "endpointMarker": "none",
                "minVizHeight": 75, "minVizWidth": 75, "orientation": "auto", "reduceOptions": reduce(),
                "segmentCount": 1, "segmentSpacing": 0.3, "shape": "gauge", "showThresholdLabels": false,
                "showThresholdMarkers": true, "sizing": "auto", "sparkline": false,
            }),
        )
        .unit(unit)
        .color("thresholds")
    }

    /// Numbers as bars.
    pub(crate) fn bars(title: &str, unit: &str, description: &str) -> Self {
        Self::new(
            PanelKind::Bargauge,
            title,
            description,
            json!({
                "displayMode": "basic", "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false },
                "maxVizHeight": 300, "minVizHeight": 16, "minVizWidth": 8, "namePlacement": "left", "orientation": "horizontal",
                "reduceOptions": reduce(), "showUnfilled": true, "sizing": "auto", "valueMode": "color",
            }),
        )
        .unit(unit)
        .color("thresholds")
    }

    /// Rows and columns.
    pub(crate) fn table(title: &str, unit: &str, description: &str) -> Self {
        Self::new(
            PanelKind::Table,
            title,
            description,
            json!({ "cellHeight": "sm", "frameIndex": 0, "showHeader": true }),
        )
        .custom("align", "auto")
        .custom("cellOptions", json!({ "type": "auto" }))
        .custom("inspect", false)
        .custom("filterable", true)
        .unit(unit)
    }

    /// Counts by time and size, of buckets that Prometheus has already made.
    pub(crate) fn heatmap(title: &str, unit: &str, description: &str) -> Self {
        Self::new(
            PanelKind::Heatmap,
            title,
            description,
            json!({
                "calculate": false, "cellGap": 1, "cellValues": { "unit": "short" },
                "color": { "exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": false, "scale": "exponential", "scheme": "Oranges", "steps": 64 },
                "exemplars": { "color": "rgba(255,0,255,0.7)" }, "filterValues": { "le": 1e-9 },
                "legend": { "show": true }, "rowsFrame": { "layout": "auto" }, "showValue": "never",
                "tooltip": { "mode": "single", "showColorScale": true, "yHistogram": false },
                "yAxis": { "axisPlacement": "left", "reverse": false, "unit": unit },
            }),
        )
        .custom("hideFrom", json!({ "legend": false, "tooltip": false, "viz": false }))
        .unit(unit)
    }

    /// Log lines.
    pub(crate) fn logs(title: &str, query: &str, description: &str) -> Self {
        let mut draft = Self::new(
            PanelKind::Logs,
            title,
            description,
            json!({
                "dedupStrategy": "none", "enableLogDetails": true, "prettifyLogMessage": false, "showCommonLabels": false,
                "showLabels": false, "showLogContextToggle": false, "showTime": true, "sortOrder": "Descending", "wrapLogMessage": true,
            }),
        );
        draft.ask(
            DataSourceKind::Elasticsearch,
            Query::Elasticsearch(ElasticsearchQuery {
                query: query.into(),
                time_field: "@timestamp".into(),
                metrics: vec![Metric {
                    id: "1".into(),
                    kind: MetricKind::Logs,
                    settings: [("limit".to_owned(), "100".to_owned())].into(),
                }],
                bucket_aggs: vec![],
                alias: String::new(),
            }),
        );
        draft
    }

    /// The newest traces of the shop in which a span has these tags and takes at least so long; each list of tags is
    /// searched for by itself.
    pub(crate) fn traces(title: &str, tags: &[&str], at_least: &str, description: &str) -> Self {
        let mut draft = Self::table(title, "string", description);
        for tags in tags {
            draft.ask(
                DataSourceKind::Jaeger,
                Query::Jaeger(JaegerQuery {
                    query_type: "search".into(),
                    service: "flask-api".into(),
                    operation: String::new(),
                    tags: (*tags).into(),
                    min_duration: at_least.into(),
                    limit: 20,
                }),
            );
        }
        if tags.len() > 1 {
            draft = draft.merged();
        }
        draft
    }

    /// Words, in Markdown.
    pub(crate) fn words(title: &str, content: &str, description: &str) -> Self {
        let mut draft = Self::new(
            PanelKind::Text,
            title,
            description,
            json!({ "mode": "markdown", "content": content }),
        );
        draft.panel.field_config = None;
        draft
    }

    fn ask(&mut self, kind: DataSourceKind, query: Query) {
        let ref_id = char::from(b'A' + u8::try_from(self.panel.targets.len()).unwrap_or(25));
        let datasource = source(kind);
        if self.panel.datasource.is_none() {
            self.panel.datasource = Some(datasource.clone());
        }
        self.panel.targets.push(Target {
            ref_id: ref_id.into(),
            datasource,
            query,
        });
    }

    fn promql(
        mut self,
        expr: &str,
        legend: &str,
        format: Format,
        instant: bool,
        exemplar: bool,
    ) -> Self {
        self.ask(
            DataSourceKind::Prometheus,
            Query::Prometheus(PrometheusQuery {
                expr: expr.split_whitespace().collect::<Vec<_>>().join(" "),
                legend_format: legend.into(),
                format,
                instant,
                range: !instant,
                exemplar,
                editor_mode: "code".into(),
            }),
        );
        self
    }

    /// Asks for a course; `legend` names a series by its labels, `{{route}}`.
    pub(crate) fn line(self, expr: &str, legend: &str) -> Self {
        self.promql(expr, legend, Format::TimeSeries, false, false)
    }

    /// Asks for the value at the end of the range.
    pub(crate) fn now(self, expr: &str, legend: &str) -> Self {
        self.promql(expr, legend, Format::TimeSeries, true, false)
    }

    /// Asks for the values at the end of the range, a label a column.
    pub(crate) fn columns(self, expr: &str) -> Self {
        self.promql(expr, "", Format::Table, true, false)
    }

    /// Asks for buckets, and for the traces behind them.
    pub(crate) fn buckets(self, expr: &str) -> Self {
        self.promql(expr, "{{le}}", Format::Heatmap, false, true)
    }

    /// Counts log lines by a field, over time.
    pub(crate) fn lines_by(mut self, query: &str, field: &str) -> Self {
        let bucket = |id: &str, kind, field: &str, settings: &[(&str, &str)]| BucketAggregation {
            id: id.into(),
            kind,
            field: field.into(),
            settings: settings
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        self.ask(
            DataSourceKind::Elasticsearch,
            Query::Elasticsearch(ElasticsearchQuery {
                query: query.into(),
                time_field: "@timestamp".into(),
                metrics: vec![Metric {
                    id: "1".into(),
                    kind: MetricKind::Count,
                    settings: [].into(),
                }],
                bucket_aggs: vec![
                    bucket(
                        "2",
                        BucketKind::Terms,
                        field,
                        &[
                            ("size", "10"),
                            ("order", "desc"),
                            ("orderBy", "_count"),
                            ("min_doc_count", "1"),
                        ],
                    ),
                    bucket(
                        "3",
                        BucketKind::DateHistogram,
                        "@timestamp",
                        &[("interval", "auto"), ("min_doc_count", "0")],
                    ),
                ],
                alias: format!("{{{{term {field}}}}}"),
            }),
        );
        self
    }

    pub(crate) fn option(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.panel.options.insert(name.into(), value.into());
        self
    }

    pub(crate) fn custom(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.config()
            .defaults
            .custom
            .insert(name.into(), value.into());
        self
    }

    fn config(&mut self) -> &mut FieldConfig {
        self.panel.field_config.get_or_insert_default()
    }

    fn unit(mut self, unit: &str) -> Self {
        self.config().defaults.unit = Some(unit.into());
        self
    }

    fn color(mut self, mode: &str) -> Self {
        self.config().defaults.color = Some(FieldColor {
            mode: mode.into(),
            fixed_color: None,
        });
        self
    }

    pub(crate) fn decimals(mut self, decimals: u8) -> Self {
        self.config().defaults.decimals = Some(decimals);
        self
    }

    pub(crate) fn between(mut self, min: f64, max: f64) -> Self {
        let defaults = &mut self.config().defaults;
        defaults.min = Some(min);
        defaults.max = Some(max);
        self
    }

    /// The axis begins at 0, so that heights can be compared.
    pub(crate) fn zero_based(mut self) -> Self {
        self.config().defaults.min = Some(0.0);
        self
    }

    /// What to say when there is nothing, which is good news.
    pub(crate) fn when_empty(mut self, words: &str) -> Self {
        self.config().defaults.no_value = Some(words.into());
        self
    }

    /// Colours by value: the first below all numbers, then from each number on.
    pub(crate) fn steps(mut self, first: &str, steps: &[(f64, &str)]) -> Self {
        let step = |color: &str, value| Step {
            color: color.into(),
            value,
        };
        self.config().defaults.thresholds = Some(Thresholds {
            mode: "absolute".into(),
            steps: std::iter::once(step(first, None))
                .chain(steps.iter().map(|(from, color)| step(color, Some(*from))))
                .collect(),
        });
        self
    }

    /// A line at the value from which on an alert fires.
    pub(crate) fn limit(self, value: f64) -> Self {
        self.steps("transparent", &[(value, "red")])
            .custom("thresholdsStyle", json!({ "mode": "dashed" }))
    }

    /// Areas on top of each other.
    pub(crate) fn stacked(self) -> Self {
        self.custom("stacking", json!({ "group": "A", "mode": "normal" }))
            .custom("fillOpacity", 40)
    }

    /// Words and colours for 1, 0 and what lies between.
    pub(crate) fn up_or_down(mut self) -> Self {
        let words = |text: &str, color: &str, index| MappingResult {
            text: text.into(),
            color: Some(color.into()),
            index,
        };
        self.config().defaults.mappings = vec![
            Mapping::Value(
                [
                    ("0".to_owned(), words("down", "red", 0)),
                    ("1".to_owned(), words("up", "green", 1)),
                ]
                .into(),
            ),
            Mapping::Range {
                from: Some(0.0),
                to: Some(0.9999),
                result: words("in part", "orange", 2),
            },
        ];
        self
    }

    /// Puts one field into another unit, or sets something else of it.
    pub(crate) fn field(mut self, name: &str, properties: &[(&str, Value)]) -> Self {
        self.config().overrides.push(Override {
            matcher: Matcher {
                id: "byName".into(),
                options: name.into(),
            },
            properties: properties
                .iter()
                .map(|(id, value)| Property {
                    id: (*id).into(),
                    value: value.clone(),
                })
                .collect(),
        });
        self
    }

    /// Makes one table of the answers to several queries.
    fn merged(mut self) -> Self {
        self.panel.transformations.push(Transformation {
            id: "merge".into(),
            options: json!({}),
        });
        self
    }

    /// Names the columns of a table, in this order; all others are left out.
    pub(crate) fn named(mut self, columns: &[(&str, &str)], left_out: &[&str]) -> Self {
        let index: Map<String, Value> = columns
            .iter()
            .enumerate()
            .map(|(index, (column, _))| ((*column).to_owned(), index.into()))
            .collect();
        let names: Map<String, Value> = columns
            .iter()
            .map(|(column, name)| ((*column).to_owned(), (*name).into()))
            .collect();
        let out: Map<String, Value> = left_out
            .iter()
            .map(|column| ((*column).to_owned(), true.into()))
            .collect();
        if self.panel.targets.len() > 1 {
            self = self.merged();
        }
        self.panel.transformations.push(Transformation {
            id: "organize".into(),
            options: json!({ "excludeByName": out, "indexByName": index, "renameByName": names }),
        });
        self
    }

    /// Where a click on a value leads.
    pub(crate) fn link(mut self, title: &str, url: &str) -> Self {
        self.config().defaults.links.push(DataLink {
            title: title.into(),
            url: url.into(),
            target_blank: false,
        });
        self
    }
}

/// The newest value of each series.
fn reduce() -> Value {
    json!({ "calcs": ["lastNotNull"], "fields": "", "values": false })
}
