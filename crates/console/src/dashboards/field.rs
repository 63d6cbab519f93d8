//! How the values of a panel's fields are shown: Grafana's settings, as `plots` has them.

use dashboards::model::{FieldColor, FieldDefaults, Mapping, Override, Panel, Thresholds};
use plots::{Colour, Format, Unit, Values};
use serde::Deserialize as _;
use serde_json::{Map, Value};

/// Settings of one field, overrides applied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Field {
    pub(crate) set: FieldDefaults,
    /// A name other than that of the data.
    pub(crate) name: Option<String>,
}

/// Settings of a field by its name and its query. Overrides by other means are not ours: [`unapplied`] tells of them.
pub(crate) fn of(panel: &Panel, name: &str, ref_id: &str) -> Field {
    let mut field = Field {
        set: panel.field(),
        name: None,
    };
    let overrides = panel.field_config.iter().flat_map(|it| &it.overrides);
    for it in overrides.filter(|it| fits(it, name, ref_id)) {
        let Ok(Value::Object(mut set)) = serde_json::to_value(&field.set) else {
            continue;
        };
        for property in &it.properties {
            if property.id == "displayName" {
                field.name = property.value.as_str().map(str::to_owned);
            } else {
                put(&mut set, &property.id, &property.value);
            }
        }
        // What is not known to the types leaves the field as it was.
        if let Ok(changed) = FieldDefaults::deserialize(Value::Object(set)) {
            field.set = changed;
        }
    }
    field
}

fn fits(it: &Override, name: &str, ref_id: &str) -> bool {
    let wanted = it.matcher.options.as_str();
    match it.matcher.id.as_str() {
        "byName" => wanted == Some(name),
        "byFrameRefID" => wanted == Some(ref_id),
        _ => false,
    }
}

/// Overrides that this viewer does not apply.
pub(crate) fn unapplied(panel: &Panel) -> Vec<&str> {
    let overrides = panel.field_config.iter().flat_map(|it| &it.overrides);
    let ids = overrides.map(|it| it.matcher.id.as_str());
    ids.filter(|id| !matches!(*id, "byName" | "byFrameRefID"))
        .collect()
}

/// Sets `custom.axisPlacement` in a map of maps.
fn put(map: &mut Map<String, Value>, path: &str, value: &Value) {
    match path.split_once('.') {
        None => drop(map.insert(path.to_owned(), value.clone())),
        Some((first, rest)) => {
            let inner = map
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

impl Field {
    pub(crate) fn format(&self) -> Format {
        Format {
            unit: Unit::parse(self.set.unit.as_deref().unwrap_or_default()),
            decimals: self.set.decimals.map(usize::from),
            mappings: self.set.mappings.iter().flat_map(mappings).collect(),
            no_value: self.set.no_value.clone(),
        }
    }

    pub(crate) fn thresholds(&self) -> plots::Thresholds {
        thresholds(self.set.thresholds.as_ref())
    }

    /// One colour whatever the value, where that is what was chosen.
    pub(crate) fn fixed(&self) -> Option<Colour> {
        match &self.set.color {
            Some(FieldColor { mode, fixed_color }) if mode == "fixed" => {
                Colour::parse(fixed_color.as_deref()?)
            }
            _ => None,
        }
    }

    /// What the panel's kind has of its own.
    pub(crate) fn custom(&self, path: &str) -> &Value {
        let mut found = &Value::Null;
        for (at, name) in path.split('.').enumerate() {
            found = match at {
                0 => self.set.custom.get(name).unwrap_or(&Value::Null),
                _ => &found[name],
            };
        }
        found
    }
}

fn thresholds(of: Option<&Thresholds>) -> plots::Thresholds {
    let steps = of.into_iter().flat_map(|it| &it.steps).map(|step| {
        let from = step.value.unwrap_or(f64::NEG_INFINITY);
        (from, Colour::parse(&step.color))
    });
    plots::Thresholds::new(steps.collect())
}

fn mappings(of: &Mapping) -> Vec<plots::Mapping> {
    let one = |values, result: &dashboards::model::MappingResult| plots::Mapping {
        of: values,
        text: Some(result.text.clone()),
        colour: result.color.as_deref().and_then(Colour::parse),
    };
    match of {
        Mapping::Value(words) => {
            let words = words.iter().map(|(value, result)| {
                let values = value
                    .parse()
                    .map_or_else(|_| Values::Text(value.clone()), Values::Is);
                one(values, result)
            });
            words.collect()
        }
        Mapping::Range { from, to, result } => {
            let (from, to) = (
                from.unwrap_or(f64::NEG_INFINITY),
                to.unwrap_or(f64::INFINITY),
            );
            vec![one(Values::Between(from, to), result)]
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn panel() -> Panel {
        Panel::deserialize(json!({
            "id": 1, "type": "timeseries", "title": "It", "gridPos": {"w": 1, "h": 1, "x": 0, "y": 0},
            "fieldConfig": {
                "defaults": {"unit": "short", "custom": {"fillOpacity": 10},
                    "mappings": [{"type": "value", "options": {"0": {"text": "down", "color": "red", "index": 0}}}]},
                "overrides": [
                    {"matcher": {"id": "byName", "options": "queue"}, "properties": [
                        {"id": "unit", "value": "percentunit"}, {"id": "custom.axisPlacement", "value": "right"},
                        {"id": "custom.stacking.mode", "value": "normal"}, {"id": "displayName", "value": "Queue"}]},
                    {"matcher": {"id": "byFrameRefID", "options": "B"}, "properties": [{"id": "decimals", "value": 2}]},
                    {"matcher": {"id": "byRegexp", "options": ".*"}, "properties": [{"id": "decimals", "value": 9}]},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn an_override_changes_the_fields_it_names_and_no_others() {
        let queue = of(&panel(), "queue", "A");
        assert_eq!(queue.set.unit.as_deref(), Some("percentunit"));
        assert_eq!(queue.custom("axisPlacement"), "right");
        assert_eq!(queue.custom("stacking.mode"), "normal");
        assert_eq!(queue.custom("fillOpacity"), 10);
        assert_eq!(queue.name.as_deref(), Some("Queue"));
        let other = of(&panel(), "other", "B");
        assert_eq!(other.set.unit.as_deref(), Some("short"));
        assert_eq!(other.custom("axisPlacement"), &Value::Null);
        assert_eq!(other.set.decimals, Some(2));
        assert_eq!(unapplied(&panel()), ["byRegexp"]);
    }

    #[test]
    fn words_and_their_colours_are_kept() {
        let format = of(&panel(), "x", "A").format();
        assert_eq!(format.show(Some(0.0)), "down");
        assert_eq!(
            format.colour(Some(0.0), &plots::Thresholds::default()),
            Some(Colour::Red)
        );
    }
}
