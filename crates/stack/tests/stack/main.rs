//! The supervisor with real processes: small programs that every Unix has.
#![cfg(test)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use stack::{
    Board, Component, Error, Health, Lab, Launch, Launching, Layout, Port, Ports, Setup, Source,
    State, Supervisor,
};
use tempfile::TempDir;

/// Long enough for any machine; a test that waits it out has failed.
const WATCHDOG: Duration = Duration::from_secs(60);

const SHELL: Source = Source::External {
    program: "sh",
    cure: "every Unix has it",
};

const fn component(
    name: &'static str,
    launch: fn(&Launching<'_>) -> Result<Launch, Error>,
) -> Component {
    Component {
        name,
        role: "",
        source: SHELL,
        ports: &[],
        health: None,
        setup: &[],
        scrape: &[],
        probes: &[],
        after: &[],
        tier: 0,
        launch: Some(launch),
    }
}

fn sh(script: &str) -> Result<Launch, Error> {
    Ok(Launch::default().arg("-c").arg(script))
}

/// Runs until it is told to end.
static STEADY: Component = component("steady", |_| sh("sleep 1000"));
/// Ignores the request to end, and has a child that does too.
static STUBBORN: Component = component("stubborn", |_| {
    sh("trap '' TERM; sleep 1000 & while :; do wait; done")
});
/// Says why it cannot start.
static BROKEN: Component = component("broken", |_| {
    sh("echo first; printf 'not text: \\377\\n'; echo 'no such port: banana' >&2; exit 7")
});
static ABSENT: Component = Component {
    source: Source::External {
        program: "no-such-program-anywhere",
        cure: "get it from the moon",
    },
    ..component("absent", |_| sh("true"))
};
/// Needs one that is absent and one that is broken, and goes on without them.
static PATIENT: Component = Component {
    after: &["absent", "broken"],
    tier: 1,
    ..component("patient", |_| sh("sleep 1000"))
};

struct Place {
    dir: TempDir,
    layout: Layout,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("project/prometheus")).unwrap();
    std::fs::write(dir.path().join("project/prometheus/prometheus.yml"), "").unwrap();
    std::fs::create_dir_all(dir.path().join("project/elk")).unwrap();
    let policy = include_str!("../../../../elk/lifecycle-policy.json");
    std::fs::write(dir.path().join("project/elk/lifecycle-policy.json"), policy).unwrap();
    let layout = layout(dir.path(), &dir.path().join("data"));
    Place { dir, layout }
}

fn layout(dir: &Path, data: &Path) -> Layout {
    Layout::new(&dir.join("project"), data, &dir.join("cache")).unwrap()
}

fn open(layout: &Layout, components: &[&'static Component]) -> Result<Supervisor, Error> {
    Supervisor::open(
        layout.clone(),
        Ports::new(0, components)?,
        components.to_vec(),
    )
}

/// Runs components until the board is as wanted, then ends them.
fn run_until(
    layout: &Layout,
    components: &[&'static Component],
    wanted: impl Fn(&Board) -> bool,
) -> Board {
    let supervisor = open(layout, components).unwrap();
    let mut board = supervisor.board();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut seen = None;
        let stop = async {
            let board = tokio::time::timeout(WATCHDOG, board.wait_for(|board| wanted(board))).await;
            seen = Some(
                board
                    .expect("the board never became as wanted")
                    .unwrap()
                    .clone(),
            );
        };
        supervisor.run(stop, std::future::pending()).await;
        seen.unwrap()
    })
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // A zombie has ended; only its parent has not looked yet.
        !stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    })
}

fn group_members(group: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        fields.get(2).is_some_and(|pgrp| *pgrp == group.to_string()) && alive(pid)
    })
    .collect()
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < WATCHDOG, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn starts_watches_and_ends() {
    let place = place();
    let board = run_until(&place.layout, &[&STEADY], |board| board.is_settled());
    let pid = board.get("steady").unwrap().pid.unwrap();
    assert_eq!(board.get("steady").unwrap().state, State::Ready);
    assert!(!alive(pid));
    let Lab::Ended(after) = Lab::look(&place.layout) else {
        panic!("the lab has ended")
    };
    assert_eq!(after.get("steady").unwrap().state, State::Stopped);
    assert_eq!(after.get("steady").unwrap().pid, None);
}

#[test]
fn kills_what_will_not_end_with_all_its_children() {
    let place = place();
    let supervisor = open(&place.layout, &[&STUBBORN]).unwrap();
    let mut board = supervisor.board();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let group = runtime.block_on(async {
        let mut group = 0;
        let stop = async {
            group = board
                .wait_for(|board| board.is_settled())
                .await
                .unwrap()
                .get("stubborn")
                .unwrap()
                .pid
                .unwrap();
            while group_members(group).len() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Forced at once: the patience for those who drain is not what is tested here.
        supervisor.run(stop, std::future::ready(())).await;
        group
    });
    eventually("the whole group is gone", || {
        group_members(group).is_empty()
    });
}

#[test]
fn a_failure_is_explained_and_holds_nobody_up() {
    let place = place();
    let board = run_until(&place.layout, &[&PATIENT, &BROKEN, &ABSENT], |board| {
        board.is_settled() && board.get("broken").unwrap().state == State::Failed
    });
    let broken = board.get("broken").unwrap();
    assert_eq!(broken.state, State::Failed);
    assert!(
        broken.detail.as_deref().unwrap().contains("exit status: 7"),
        "{broken:?}"
    );
    assert_eq!(
        broken.last_lines,
        ["first", "not text: \u{fffd}", "no such port: banana"]
    );
    let absent = board.get("absent").unwrap();
    assert_eq!(absent.state, State::Absent);
    assert!(
        absent
            .detail
            .as_deref()
            .unwrap()
            .contains("get it from the moon"),
        "{absent:?}"
    );
    assert_eq!(board.get("patient").unwrap().state, State::Ready);
}

#[test]
fn tells_when_a_component_dies_later() {
    static DOOMED: Component = component("doomed", |_| sh("echo last words; sleep 1000"));
    let place = place();
    let supervisor = open(&place.layout, &[&DOOMED]).unwrap();
    let mut board = supervisor.board();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stop = async {
            let pid = board
                .wait_for(|board| board.is_settled())
                .await
                .unwrap()
                .get("doomed")
                .unwrap()
                .pid
                .unwrap();
            let log = board.borrow().get("doomed").unwrap().log.clone().unwrap();
            while !std::fs::read_to_string(&log)
                .unwrap()
                .contains("last words")
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            )
            .unwrap();
            let dead = |board: &Board| board.get("doomed").unwrap().state == State::Failed;
            let board = tokio::time::timeout(WATCHDOG, board.wait_for(dead))
                .await
                .unwrap()
                .unwrap();
            let doomed = board.get("doomed").unwrap();
            assert!(
                doomed.detail.as_deref().unwrap().contains("signal: 9"),
                "{doomed:?}"
            );
            assert_eq!(doomed.last_lines, ["last words"]);
        };
        supervisor.run(stop, std::future::pending()).await;
    });
}

#[test]
fn is_ready_only_when_healthy_and_set_up() {
    // This very binary plays the component: healthy at the third look, takes its set-up at the second try.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let ports: &'static [Port] = Box::leak(Box::new([Port {
        name: "http",
        default: port,
    }]));
    let slow: &'static Component = Box::leak(Box::new(Component {
        ports,
        health: Some(Health {
            port: "http",
            path: "/healthy",
        }),
        setup: &[Setup {
            port: "http",
            path: "/template",
            file: "template.json",
            unless: None,
        }],
        ..component("slow", |launching| {
            let program = std::env::current_exe().unwrap();
            Ok(
                sh(r#"exec "$TEST_PROGRAM" --exact --ignored --nocapture as_a_slow_component"#)?
                    .env("TEST_PROGRAM", program)
                    .env("STACK_TEST_ADDRESS", launching.address("http")),
            )
        })
    }));
    let place = place();
    std::fs::write(
        place.layout.config("template.json"),
        r#"{"template": true}"#,
    )
    .unwrap();
    let board = run_until(&place.layout, &[slow], |board| board.is_settled());
    let slow = board.get("slow").unwrap();
    assert_eq!(slow.state, State::Ready);
    let log = std::fs::read_to_string(slow.log.as_ref().unwrap()).unwrap();
    let seen: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split("seen ").nth(1))
        .collect();
    assert_eq!(
        seen,
        [
            "GET /healthy -> 503",
            "GET /healthy -> 503",
            "GET /healthy -> 200",
            r#"PUT /template {"template": true} -> 503"#,
            r#"PUT /template {"template": true} -> 200"#,
        ]
    );
}

#[test]
#[ignore = "started by is_ready_only_when_healthy_and_set_up"]
fn as_a_slow_component() {
    let Ok(address) = std::env::var("STACK_TEST_ADDRESS") else {
        return;
    };
    let listener = TcpListener::bind(address).unwrap();
    let (mut gets, mut puts) = (0, 0);
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head: Vec<String> = (&mut reader)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = head[0].trim_end_matches(" HTTP/1.1");
        let accepted = if request.starts_with("PUT") {
            puts += 1;
            puts >= 2
        } else {
            gets += 1;
            gets >= 3
        };
        let status = if accepted { 200 } else { 503 };
        let body = String::from_utf8(body).unwrap();
        println!("seen {} -> {status}", format!("{request} {body}").trim());
        write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
    }
}

#[test]
fn a_busy_port_names_its_holder_and_the_cure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ports: &'static [Port] = Box::leak(Box::new([Port {
        name: "http",
        default: port,
    }]));
    let wanting: &'static Component = Box::leak(Box::new(Component {
        ports,
        ..component("wanting", |_| sh("true"))
    }));
    let place = place();
    let error = open(&place.layout, &[wanting]).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2);
    for part in [
        &port.to_string(),
        "wanting",
        &format!("process {}", std::process::id()),
        "--port-offset",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    drop(listener);
    open(&place.layout, &[wanting]).expect("the port is free now");
}

#[test]
fn one_lab_per_data_directory() {
    let place = place();
    let first = open(&place.layout, &[&STEADY]).unwrap();
    let error = open(&place.layout, &[&STEADY]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    assert!(matches!(Lab::look(&place.layout), Lab::Running(_)));
    drop(first);
    assert!(matches!(Lab::look(&place.layout), Lab::Ended(_)));
    open(&place.layout, &[&STEADY]).expect("the lock is free again");
}

#[test]
fn an_unusable_data_directory_is_refused_with_the_cure() {
    let place = place();
    let file = place.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = open(&layout(place.dir.path(), &file.join("data")), &[&STEADY]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--data-dir"), "{error}");
}

#[test]
fn an_offset_past_the_last_port_is_refused() {
    static HIGH: Component = Component {
        ports: &[Port {
            name: "http",
            default: 65_000,
        }],
        ..component("high", |_| sh("true"))
    };
    assert_eq!(
        Ports::new(535, &[&HIGH]).unwrap().port(&HIGH, "http"),
        65_535
    );
    let error = Ports::new(536, &[&HIGH]).unwrap_err();
    assert!(
        error.to_string().contains("largest that works is 535"),
        "{error}"
    );
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn kill_9_of_the_lab_leaves_nothing() {
    let place = place();
    let mut lab = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "as_a_process_of_its_own",
        ])
        .env("STACK_TEST_DIR", place.dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(lab.stdout.take().unwrap()).lines();
    let group: u32 = lines
        .map_while(Result::ok)
        .find_map(|line| {
            line.split("started ")
                .nth(1)
                .map(|pid| pid.trim().parse().unwrap())
        })
        .expect("the lab tells what it started");
    eventually("both processes of the component run", || {
        group_members(group).len() == 2
    });
    lab.kill().unwrap();
    lab.wait().unwrap();
    eventually("the component is gone", || !alive(group));
    assert!(matches!(Lab::look(&place.layout), Lab::Ended(_)));
    open(&place.layout, &[&STEADY]).expect("the next lab can start");
    // What is left of the group is a grandchild whose parent the kernel killed; end it, it is ours.
    for pid in group_members(group) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}

#[test]
#[ignore = "started by kill_9_of_the_lab_leaves_nothing"]
fn as_a_process_of_its_own() {
    let Some(dir) = std::env::var_os("STACK_TEST_DIR") else {
        return;
    };
    let dir = Path::new(&dir);
    run_until(&layout(dir, &dir.join("data")), &[&STUBBORN], |board| {
        if board.is_settled() {
            println!("started {}", board.get("stubborn").unwrap().pid.unwrap());
        }
        false
    });
}
