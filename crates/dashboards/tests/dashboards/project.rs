//! The project's files.

use std::path::{Path, PathBuf};

use dashboards::model::Dashboard;

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

pub fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Files of a directory with an extension, by name.
pub fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(root().join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}

/// Every committed dashboard.
pub fn committed() -> Vec<Dashboard> {
    let dashboards: Vec<_> = files(dashboards::DIRECTORY, "json")
        .iter()
        .map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            Dashboard::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .collect();
    assert_eq!(dashboards.len(), 4);
    dashboards
}
