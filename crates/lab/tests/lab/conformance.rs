//! N numbered lines in, N documents out, whatever happens on the way: rotation under load, shippers killed, Elasticsearch away,
//! lines that are no JSON, glued together, or very long. For every log route whose program is here.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    running::{TestLab, everything_is_installed, skip},
    shippers::{Place, Route, Shipper, elasticsearch, routes, search},
};

/// Lines of the test in CI.
const LINES: u64 = 100_000;
const ROTATIONS: u64 = 20;

/// Way longer than any route needs; it says which lines are missing when it is over.
const PATIENCE: Duration = Duration::from_secs(300);

/// A service's log file, rotated as log files are: the old one gets another name, and stays.
struct Log {
    dir: PathBuf,
    file: File,
    written: u64,
    rotations: u64,
}

impl Log {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            file: open(dir),
            written: 0,
            rotations: 0,
        }
    }

    fn numbered(&mut self, lines: u64) {
        for _ in 0..lines {
            let number = self.written;
            self.line(&json!({
                "@timestamp": jiff::Timestamp::now(), "log.level": "info", "message": format!("line {number}"),
                "service.name": "conformance", "event.dataset": "conformance.app", "labels.number": number,
            }).to_string());
            self.written += 1;
        }
    }

    fn line(&mut self, text: &str) {
        self.file.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        let old = self.dir.join(format!("conformance.log.{}", self.rotations));
        std::fs::rename(self.dir.join("conformance.log"), old).unwrap();
        self.file = open(&self.dir);
    }
}

fn open(dir: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("conformance.log"))
        .unwrap()
}

/// Every document of the test: how often each number is there, and those without a number.
fn documents(elasticsearch: &str) -> (BTreeMap<u64, u64>, Vec<Value>) {
    let search = |query: Value| search(elasticsearch, "flask-logs-*", &query);
    let mut numbers = BTreeMap::new();
    let mut after = json!([-1, ""]);
    loop {
        let query = json!({
            "size": 10_000, "_source": ["labels.number"], "query": { "exists": { "field": "labels.number" } },
            "sort": [{ "labels.number": { "order": "asc", "unmapped_type": "long" } }, { "log.file.name": { "missing": "", "unmapped_type": "keyword" } }],
            "search_after": after,
        });
        let hits = search(query);
        for hit in &hits {
            let number = hit["_source"]["labels.number"].as_f64().unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it was one"
            )]
            let number = number as u64;
            *numbers.entry(number).or_default() += 1;
        }
        match hits.last() {
            Some(last) if hits.len() == 10_000 => after = last["sort"].clone(),
            _ => break,
        }
    }
    let query = json!({ "size": 100, "query": { "bool": { "must_not": { "exists": { "field": "labels.number" } } } } });
    (numbers, search(query))
}

/// Waits until every number is there, and says how many are there more than once.
fn all_arrive(shipper: &mut Shipper, elasticsearch: &str, lines: u64) -> u64 {
    let started = Instant::now();
    loop {
        shipper.assert_alive();
        let (numbers, _) = documents(elasticsearch);
        let there = u64::try_from(numbers.len()).unwrap();
        if there == lines {
            return numbers.values().map(|count| count - 1).sum();
        }
        let missing: Vec<u64> = (0..lines)
            .filter(|it| !numbers.contains_key(it))
            .take(20)
            .collect();
        assert!(
            started.elapsed() < PATIENCE,
            "{there} of {lines} lines arrived; missing: {missing:?}...; the shipper said: {}",
            shipper.said()
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn every_line_becomes_a_document_whatever_happens_on_the_way() {
    if !everything_is_installed() {
        return;
    }
    let routes = routes();
    if routes.is_empty() {
        skip("no log shipper is installed; get one with `lab install otelcol`");
    }
    for route in routes {
        conforms(&route);
    }
}

fn conforms(route: &Route) {
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let place = Place {
        files: logs.join("*.log*").display().to_string(),
        elasticsearch: route.way_to(&url),
        state: dir.path().join("state"),
    };
    let mut log = Log::new(&logs);
    let mut running = Some(Shipper::start(route, &place));
    // What is no line of ours is kept too, and can be found.
    let long = "x".repeat(1_000_000);
    for step in 0..ROTATIONS {
        log.numbered(LINES / ROTATIONS);
        match step {
            2 => log.line("{\"message\": \"malformed"),
            4 => log.line(r#"{"message":"glued","labels.half":1}{"message":"together","labels.half":2}"#),
            6 => log.line(&json!({ "@timestamp": jiff::Timestamp::now(), "message": long, "service.name": "conformance" }).to_string()),
            // Killed, and lines are written and the file is rotated while nobody reads.
            5 | 17 => running.take().unwrap().kill(),
            7 | 18 => running = Some(Shipper::start(route, &place)),
            10 => assert_eq!(lab.run(&["down"]).status.code(), Some(0)),
            // Killed while it waits for Elasticsearch, too.
            12 => {
                running.take().unwrap().kill();
                running = Some(Shipper::start(route, &place));
            }
            14 => assert_eq!(elasticsearch(&mut lab), url),
            _ => {}
        }
        log.rotate();
    }
    assert_eq!(log.written, LINES);
    let mut shipper = running.unwrap();
    let duplicates = all_arrive(&mut shipper, &url, LINES);
    // A line has a name of its own by where it stands, so that a second reading is no second document.
    assert_eq!(duplicates, 0, "{}", route.name);
    let (_, others) = documents(&url);
    let holds = |part: &str| {
        others
            .iter()
            .filter(|it| it["_source"].to_string().contains(part))
            .count()
    };
    assert_eq!(holds("malformed"), 1, "{others:#?}");
    assert_eq!(holds("glued"), 1);
    assert_eq!(holds(&long), 1);
    assert_eq!(others.len(), 3);
}

/// Ten minutes, 500 lines a second, no Elasticsearch. Prints what it saw: `cargo test -p lab --test lab ten_minutes -- --ignored --nocapture`.
#[test]
#[ignore = "takes twelve minutes"]
fn ten_minutes_without_elasticsearch_lose_nothing() {
    let route = routes()
        .into_iter()
        .next()
        .expect("a log shipper is installed");
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let place = Place {
        files: logs.join("*.log*").display().to_string(),
        elasticsearch: route.way_to(&url),
        state: dir.path().join("state"),
    };
    let mut log = Log::new(&logs);
    let mut shipper = Shipper::start(&route, &place);
    log.numbered(500);
    all_arrive(&mut shipper, &url, 500);
    assert_eq!(lab.run(&["down"]).status.code(), Some(0));
    let started = Instant::now();
    let size = || -> u64 {
        let files = std::fs::read_dir(&place.state)
            .into_iter()
            .flatten()
            .flatten();
        files
            .filter_map(|file| Some(file.metadata().ok()?.len()))
            .sum()
    };
    let mut largest = 0;
    for second in 1..=600_u64 {
        log.numbered(500);
        largest = largest.max(size());
        // The lines come at a rate, so the clock decides when the next are due.
        std::thread::sleep(
            (started + Duration::from_secs(second)).saturating_duration_since(Instant::now()),
        );
    }
    println!(
        "queue and positions on disk: {} KiB at most",
        largest / 1024
    );
    assert_eq!(elasticsearch(&mut lab), url);
    let back = Instant::now();
    let duplicates = all_arrive(&mut shipper, &url, 500 + 600 * 500);
    println!(
        "300,500 lines: 0 missing, {duplicates} twice; caught up within {:.0} s",
        back.elapsed().as_secs_f64()
    );
}
