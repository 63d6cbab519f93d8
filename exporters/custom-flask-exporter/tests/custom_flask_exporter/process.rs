//! The program itself: how it starts, refuses to start, and stops.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::WATCHDOG;
use crate::shop::Shop;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custom-flask-exporter"));
    command.env_clear().args(arguments);
    command
}

/// The running program; killed when a test fails.
struct Program {
    child: Child,
    /// Lines of standard output; ends when the program does.
    log: Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, log }
    }

    /// The address its log says it serves on.
    fn metrics_url(&mut self) -> String {
        loop {
            let line = self.log.recv_timeout(WATCHDOG).expect("a line of log");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(entry["service.name"], "custom-flask-exporter");
            if let Some(url) = entry["message"].as_str().unwrap().strip_prefix("serving ") {
                return url.to_owned();
            }
        }
    }

    /// The exit code, once the program has closed its log.
    fn exit_code(&mut self) -> Option<i32> {
        loop {
            match self.log.recv_timeout(WATCHDOG) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the program does not end"),
            }
        }
        self.child.wait().unwrap().code()
    }
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn it_serves_until_told_to_stop_and_then_ends_well() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let shop = Shop::absent();
        let mut program = Program::start(&["--listen=127.0.0.1:0", "--database-url", &shop.url()]);
        let url = program.metrics_url();
        // The client keeps its connection open, as Prometheus does.
        let client = reqwest::Client::new();
        let text = client.get(&url).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("\nshop_up 0\n"), "{text}");
        assert!(text.contains("\nprocess_start_time_seconds "), "{text}");

        kill(Pid::from_raw(program.child.id().cast_signed()), signal).unwrap();
        assert_eq!(program.exit_code(), Some(0), "{signal}");
    }
}

#[test]
fn a_port_in_use_is_refused_with_cause_and_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = refused(&program(&["--listen", &address]).output().unwrap());
    assert!(
        message.contains(&format!("cannot listen on {address}")),
        "{message}"
    );
    assert!(message.contains("Another process"), "{message}");
    assert!(message.contains("--listen"), "{message}");
}

#[test]
fn wrong_configuration_is_refused_before_the_port_is_taken() {
    // Taken, so that a program which first binds would complain about this instead.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    for (argument, expected) in [
        (
            "--database-url=mysql://shop:secret@db/shop",
            "must start with sqlite:// or postgres://",
        ),
        (
            "--database-url=postgres://shop:secret@db/shop?sslmode=require",
            "sslmode=require asks for TLS",
        ),
        (
            "--database-url=postgres://shop:secret@db:many/shop",
            "not valid",
        ),
        (
            "--api-url=https://shop:secret@api",
            "must start with http://",
        ),
        ("--probe.allow=http://secret@api", "host and port only"),
        ("--probe.allow=http://api,ftp://api", "(--probe.allow"),
        ("--probe.timeout=0s", "must be above 0s"),
        ("--probe.product-id=first", "--probe.product-id"),
        ("--log-level=custom_flask_exporter=loud", "--log-level"),
        (
            "--web.config.file=/nowhere/web.yml",
            "cannot read /nowhere/web.yml: No such file",
        ),
        ("--database-url=sqlite::memory:", "in-memory"),
        ("--database-url=sqlite://shop.db?mode=odd", "not valid"),
        ("--scrape-timeout=0s", "must be above 0s"),
        ("--scrape-timeout=soon", "write it like 2s"),
        (
            "--collectors=orders,taxes",
            "possible values: orders, revenue, stock, database",
        ),
        ("--listen=nowhere", "--listen"),
    ] {
        for mode in [&[][..], &["--config.check"]] {
            let mut command = program(&[&listen, argument]);
            let message = refused(&command.args(mode).output().unwrap());
            assert!(message.contains(expected), "{argument}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
    }
}

#[test]
fn flags_can_be_given_in_the_environment() {
    for (variable, value, expected) in [
        ("EXPORTER_LISTEN", "nowhere", "--listen"),
        ("DATABASE_URL", "mysql://shop", "DATABASE_URL"),
        ("EXPORTER_SCRAPE_TIMEOUT", "soon", "--scrape-timeout"),
        ("EXPORTER_COLLECTORS", "taxes", "--collectors"),
        ("EXPORTER_API_URL", "shop", "--api-url"),
        ("EXPORTER_PROBE_ALLOW", "http://api,shop", "--probe.allow"),
        ("EXPORTER_PROBE_TIMEOUT", "soon", "--probe.timeout"),
        ("EXPORTER_PROBE_PRODUCT_ID", "soon", "--probe.product-id"),
        ("EXPORTER_WEB_CONFIG_FILE", "/nowhere", "--web.config.file"),
        ("EXPORTER_CONFIG_CHECK", "perhaps", "--config.check"),
    ] {
        let output = program(&[]).env(variable, value).output().unwrap();
        let message = refused(&output);
        assert!(message.contains(expected), "{variable}: {message}");
    }
}

#[test]
fn a_good_configuration_is_checked_without_taking_the_port() {
    // Taken, so that a program which binds would fail.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let everything = [
        &listen,
        "--config.check",
        "--database-url=postgres://reader:secret@db/shop",
        "--collectors=revenue",
        "--api-url=http://127.0.0.1:5000",
        "--probe.allow=http://127.0.0.1:5000,http://127.0.0.1:5001/",
        "--probe.allow=http://shop",
    ];
    let output = program(&everything).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("the configuration is good"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}
