//! The workshop, done from its first lab to its last on a running lab: nothing is done at first, and everything when it was worked on.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::running::{TestLab, eventually, everything_is_installed, free_port, lab, project, text};

/// A lab of the workshop as `lab labs` lists it, with a learner's folder.
struct Exercise {
    n: String,
    folder: PathBuf,
    work: PathBuf,
}

impl Exercise {
    fn all(lab: &TestLab, learner: &Path) -> Vec<Self> {
        let listed = lab.json(&["labs", "--json"]);
        let labs = listed["labs"].as_array().unwrap().iter();
        let labs = labs.map(|it| Self {
            n: it["lab"].to_string(),
            folder: it["folder"].as_str().unwrap().into(),
            work: learner.join(it["lab"].to_string()),
        });
        labs.collect()
    }

    fn run(&self, lab: &TestLab, args: &[&str]) -> (Option<i32>, String) {
        let output = lab
            .command(&[args, &[&self.n, "--work", self.work.to_str().unwrap()]].concat())
            .output()
            .unwrap();
        (output.status.code(), text(&output))
    }

    fn check(&self, lab: &TestLab) -> Value {
        let (code, said) = self.run(lab, &["check", "--json"]);
        let report: Value =
            serde_json::from_str(&said).unwrap_or_else(|_| panic!("lab {}: {said}", self.n));
        assert_eq!(code, Some(i32::from(report["ok"] != true)), "{report:#}");
        report
    }

    /// Does what its README.md says, by its own script.
    fn solve(&self, lab: &TestLab) -> Solved {
        // The script finds the program that is tested here.
        let program = Path::new(env!("CARGO_BIN_EXE_lab"));
        let mut path = program.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let log = std::fs::File::create(self.work.join("solve.log")).unwrap();
        let script = Command::new(self.folder.join("solution/solve.sh"))
            .env("PATH", path)
            .env("WORK", &self.work)
            .env("LAB_DATA_DIR", lab.data.path())
            .env("LAB_PORT_OFFSET", lab.offset.to_string())
            .env("OWN_PORT", free_port().to_string())
            // Nothing of ours is behind a proxy.
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Solved(script)
    }
}

/// A script, and what it leaves running for the check: a process group that ends with this.
struct Solved(Child);

impl Solved {
    fn assert_done(&mut self, exercise: &Exercise) {
        let status = self.0.wait().unwrap();
        let said = std::fs::read_to_string(exercise.work.join("solve.log")).unwrap();
        assert!(status.success(), "lab {}: {said}", exercise.n);
    }
}

impl Drop for Solved {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().try_into().unwrap());
        // Nothing is left of most of them.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn open_steps(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap().iter();
    let open = steps.filter(|step| step["ok"] != true);
    open.map(|step| format!("{}: {}", step["name"], step["evidence"][0]))
        .collect()
}

#[test]
fn every_lab_is_open_before_it_is_done_and_done_afterwards() {
    if !everything_is_installed() {
        return;
    }
    let mut lab = TestLab::new();
    let up = lab.up(&[]);
    assert!(up.status.success(), "{}", text(&up));
    let learner = tempfile::tempdir().unwrap();
    let exercises = Exercise::all(&lab, learner.path());
    for it in &exercises {
        // Without a file at all, then with those that it begins with.
        let nothing = it.check(&lab);
        let (code, said) = it.run(&lab, &["labs", "start"]);
        assert_eq!(code, Some(0), "{said}");
        let begun = it.check(&lab);
        for report in [nothing, begun] {
            let steps = report["steps"].as_array().unwrap();
            assert!(!steps.is_empty(), "{report:#}");
            for step in steps {
                assert_eq!(step["ok"], false, "lab {}: {step:#}", it.n);
                assert!(!step["hint"].as_str().unwrap().is_empty(), "{step:#}");
            }
        }
    }
    // One after the other: each has its own faults.
    let mut left_running = Vec::new();
    for it in &exercises {
        let mut script = it.solve(&lab);
        script.assert_done(it);
        left_running.push(script);
    }
    for it in &exercises {
        // Rates need a minute, lines some seconds.
        let mut report = Value::Null;
        let mut last = Vec::new();
        eventually(&format!("lab {} is done", it.n), || {
            report = it.check(&lab);
            let open = open_steps(&report);
            if open != last {
                eprintln!("lab {}: {open:?}", it.n);
                last = open;
            }
            report["ok"] == true
        });
        let written: Value = serde_json::from_slice(
            &std::fs::read(lab.data.path().join(format!("checked-{}.json", it.n))).unwrap(),
        )
        .unwrap();
        assert_eq!(written["report"], report);
        // What a learner has written stays.
        let before = files(&it.work);
        let (code, said) = it.run(&lab, &["labs", "start"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("kept") && !said.contains("made"), "{said}");
        assert_eq!(files(&it.work), before);
    }
    wrong_answers_are_found(&lab, &exercises);
    let listed = text(&lab.run(&["labs"]));
    for it in &exercises {
        let line = listed
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{} ", it.n)));
        assert!(line.is_some_and(|line| line.contains(" UTC ")), "{listed}");
    }
}

/// The files of a folder that are text, by their names; a database that goes on changing is not among them.
fn files(work: &Path) -> BTreeMap<PathBuf, String> {
    let files = std::fs::read_dir(work).unwrap().flatten();
    let files = files.filter(|it| it.file_type().unwrap().is_file());
    let files = files.filter(|it| it.path().extension().is_none_or(|it| it != "log"));
    let files = files.filter_map(|it| Some((it.path(), std::fs::read_to_string(it.path()).ok()?)));
    files.collect()
}

/// Each answer, made wrong, leaves a step open; so does a query that says something else.
fn wrong_answers_are_found(lab: &TestLab, exercises: &[Exercise]) {
    for it in exercises {
        for name in ["answers.yaml", "queries.yaml"] {
            let file = it.work.join(name);
            let Ok(right) = std::fs::read_to_string(&file) else {
                continue;
            };
            let answers: BTreeMap<String, Value> = serde_saphyr::from_str(&right).unwrap();
            for (question, answer) in &answers {
                let wrong = match answer {
                    Value::Number(number) => json!(number.as_f64().unwrap() * 2.0 + 100.0),
                    Value::Array(_) => json!(["nobody"]),
                    _ if name == "queries.yaml" => json!("vector(-7)"),
                    _ => json!("00000000000000000000000000000007"),
                };
                let mut answers = answers.clone();
                answers.insert(question.clone(), wrong);
                std::fs::write(&file, json!(answers).to_string()).unwrap();
                let report = it.check(lab);
                assert_eq!(report["ok"], false, "lab {} takes any {question}", it.n);
            }
            std::fs::write(&file, right).unwrap();
        }
    }
}

#[test]
fn the_texts_name_what_there_is() {
    let folders = std::fs::read_dir(project().join("labs")).unwrap().flatten();
    let mut folders: Vec<_> = folders
        .filter(|it| it.file_type().unwrap().is_dir())
        .map(|it| it.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let data = tempfile::tempdir().unwrap();
    let output = lab(&["labs", "--json", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let labs = listed["labs"].as_array().unwrap();
    let names: Vec<_> = labs.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, folders);
    for it in labs {
        assert_eq!(it["last_check"], Value::Null);
        let folder = PathBuf::from(it["folder"].as_str().unwrap());
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(
            readme.contains(&format!("lab check {}", it["lab"])),
            "{readme}"
        );
        // Links of the text lead somewhere.
        for link in readme.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let file = link.split('#').next().unwrap();
            if !file.starts_with("http") {
                assert!(
                    folder.join(file).exists(),
                    "{} links {link}",
                    folder.display()
                );
            }
        }
        // Every question of the answers is asked in the text or beside it.
        for file in ["start", "solution"] {
            assert!(
                folder.join(file).is_dir(),
                "{} has no {file}",
                folder.display()
            );
        }
    }
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = lab(args)
            .arg("--data-dir")
            .arg(data.path())
            .output()
            .unwrap();
        (output.status.code(), text(&output))
    };
    for (args, why) in [
        (&["check", "99"][..], "there is no lab 99"),
        (&["labs", "start", "0"], "there is no lab 0"),
        (&["check", "one"], "invalid value 'one'"),
        (&["check", "1"], "no lab runs on"),
        (
            &["check", "1", "--endpoints", "/nowhere.yaml"],
            "/nowhere.yaml",
        ),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    }
}
