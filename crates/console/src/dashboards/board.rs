//! The files of `grafana/dashboards`, as they are on disk now.

use std::{fs, path::Path};

use dashboards::model::{Dashboard, GridPosition, Panel};
use serde::Deserialize as _;
use serde_json::Value;

/// A dashboard, panel by panel: one that is not understood does not hide the others.
#[derive(Debug)]
pub(crate) struct Board {
    /// All but its panels.
    pub(crate) about: Dashboard,
    pub(crate) tiles: Vec<Tile>,
}

/// What stands at one place.
#[derive(Debug)]
pub(crate) enum Tile {
    Panel(Box<Panel>),
    /// Something that Grafana may know.
    Unknown {
        title: String,
        kind: String,
        place: GridPosition,
        why: String,
    },
}

impl Tile {
    pub(crate) fn place(&self) -> &GridPosition {
        match self {
            Self::Panel(panel) => &panel.grid_pos,
            Self::Unknown { place, .. } => place,
        }
    }
}

impl Board {
    /// Reads a file's text.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut value: Value = serde_json::from_str(text)?;
        let panels = value.get_mut("panels").map(Value::take);
        if let Some(map) = value.as_object_mut() {
            map.insert("panels".into(), Value::Array(Vec::new()));
        }
        let about = Dashboard::deserialize(value)?;
        let mut tiles = Vec::new();
        for panel in panels
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            tiles.push(tile(panel));
            // A row that is folded up in Grafana is open here.
            let inner = panel.get("panels").and_then(Value::as_array);
            tiles.extend(inner.into_iter().flatten().map(tile));
        }
        tiles.sort_by_key(|tile| (tile.place().y, tile.place().x));
        Ok(Self { about, tiles })
    }

    /// All of a directory by their titles, and what is wrong with those that cannot be read.
    pub(crate) fn all(directory: &Path) -> (Vec<Self>, Vec<String>) {
        let mut boards = Vec::new();
        let mut wrong = Vec::new();
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                let directory = directory.display();
                return (boards, vec![format!("cannot read {directory}: {error}")]);
            }
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        for path in paths.filter(|path| path.extension().is_some_and(|it| it == "json")) {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string());
            match text.and_then(|text| Self::parse(&text).map_err(|error| error.to_string())) {
                Ok(board) => boards.push(board),
                Err(error) => wrong.push(format!("{} is not read: {error}", path.display())),
            }
        }
        boards.sort_by(|one, other| one.about.title.cmp(&other.about.title));
        wrong.sort();
        (boards, wrong)
    }
}

fn tile(value: &Value) -> Tile {
    match Panel::deserialize(value) {
        Ok(panel) => Tile::Panel(Box::new(panel)),
        Err(error) => {
            let text = |name: &str| value[name].as_str().unwrap_or("?").to_owned();
            let whole = GridPosition {
                w: 24,
                h: 3,
                x: 0,
                y: u32::MAX,
            };
            Tile::Unknown {
                title: text("title"),
                kind: text("type"),
                place: GridPosition::deserialize(&value["gridPos"]).unwrap_or(whole),
                why: error.to_string(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(panels: &Value) -> String {
        json!({
            "uid": "it", "title": "It", "description": "", "tags": [], "schemaVersion": 42, "editable": false,
            "graphTooltip": 1, "timezone": "utc", "refresh": "10s", "time": {"from": "now-15m", "to": "now"},
            "templating": {"list": []}, "annotations": {"list": []}, "links": [], "panels": panels,
        })
        .to_string()
    }

    #[test]
    fn a_panel_that_is_not_known_leaves_the_others_alone() {
        let place = |y: u32| json!({"w": 12, "h": 8, "x": 0, "y": y});
        let text = file(&json!([
            {"id": 2, "type": "text", "title": "Words", "gridPos": place(9), "options": {}},
            {"id": 1, "type": "geomap", "title": "Where", "gridPos": place(1)},
        ]));
        let board = Board::parse(&text).unwrap();
        let [Tile::Unknown { title, kind, .. }, Tile::Panel(words)] = &board.tiles[..] else {
            panic!("{:?}", board.tiles);
        };
        assert_eq!((title.as_str(), kind.as_str()), ("Where", "geomap"));
        assert_eq!(words.title, "Words");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_leaves_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("good.json"), file(&json!([]))).unwrap();
        fs::write(dir.path().join("bad.json"), "[1]").unwrap();
        fs::write(dir.path().join("README.md"), "no dashboard").unwrap();
        let (boards, wrong) = Board::all(dir.path());
        assert_eq!(boards.len(), 1);
        assert!(
            wrong.len() == 1 && wrong[0].contains("bad.json"),
            "{wrong:?}"
        );
        let (boards, wrong) = Board::all(&dir.path().join("none"));
        assert!(
            boards.is_empty() && wrong[0].contains("cannot read"),
            "{wrong:?}"
        );
    }
}
