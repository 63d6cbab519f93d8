//! From an alert to the right person's screen: the committed configuration and templates in real Alertmanagers, the
//! oldest they are for and today's, and what their receivers got.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{eventually, free_port, lab, program, project, skip, text};

/// The stand-ins, on a thread of their own that ends with the test's process.
struct Inbox {
    http: String,
    smtp: String,
    dir: TempDir,
}

impl Inbox {
    fn start(silence: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let stand_ins = ::inbox::StandIns::bind(::inbox::Args {
            listen: any,
            smtp_listen: any,
            store: dir.path().join("messages.jsonl"),
            secrets: secrets.clone(),
            docs: None,
            silence,
            hosts: Vec::new(),
        })
        .unwrap();
        let http = stand_ins.http_address().unwrap().to_string();
        let smtp = stand_ins.smtp_address().unwrap().to_string();
        std::thread::spawn(move || {
            let ended = actix_web::rt::System::new().block_on(stand_ins.run(::inbox::Site {
                frame: |part| actix_web::HttpResponse::Ok().body(part.main.into_string()),
                routes: std::sync::Arc::new(|_| {}),
            }));
            ended.unwrap();
        });
        for team in ["shop", "platform"] {
            let address = format!("http://{http}/inbox/slack/services/T/slack-{team}/s3cret");
            std::fs::write(secrets.join(format!("slack-{team}")), address).unwrap();
        }
        for (number, person) in ["first", "second", "third", "fourth", "fallback"]
            .iter()
            .enumerate()
        {
            let file = secrets.join(format!("pagerduty-oncall-{person}"));
            std::fs::write(file, format!("{number:032}\n")).unwrap();
        }
        Self { http, smtp, dir }
    }

    fn ask(&self, path: &str) -> Value {
        let url = format!("http://{}/inbox/api/{path}", self.http);
        block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() })
    }

    fn messages(&self) -> Vec<Value> {
        self.ask("messages")["messages"].as_array().unwrap().clone()
    }

    fn refused(&self) -> Vec<Value> {
        self.ask("messages")["refused"].as_array().unwrap().clone()
    }

    /// Receivers that were told of an alert, once for each message.
    fn told(&self, alert: &str, status: &str) -> Vec<String> {
        let messages = self.messages().into_iter().filter(|message| {
            message["status"] == status
                && message["alerts"]
                    .as_array()
                    .unwrap()
                    .contains(&alert.into())
        });
        let mut told: Vec<String> = messages
            .map(|message| message["receiver"].as_str().unwrap().to_owned())
            .collect();
        told.sort();
        told
    }

    fn trouble(&self, channel: &str, trouble: Option<&str>) {
        let url = format!("http://{}/inbox/api/behaviour", self.http);
        let body = json!({ "channel": channel, "trouble": trouble, "for_seconds": 600 });
        let answer = block_on(reqwest::Client::new().put(url).json(&body).send()).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The committed configuration with the addresses of an inbox, and with times that a test can wait for.
fn config(inbox: &Inbox) -> String {
    let text = read("alertmanager/alertmanager.yml");
    let mut text = text
        .replace("127.0.0.1:8000", &inbox.http)
        .replace("127.0.0.1:1025", &inbox.smtp);
    for (usual, short) in [
        ("group_wait: 5s", "group_wait: 1s"),
        ("group_interval: 30s", "group_interval: 2s"),
        ("group_interval: 15s", "group_interval: 1s"),
        ("repeat_interval: 25s", "repeat_interval: 1s"),
    ] {
        assert!(text.contains(usual), "{usual}");
        text = text.replace(usual, short);
    }
    // On a Sunday night, too, it is not time for maintenance.
    let another_day = TimeZone::UTC.to_datetime(Timestamp::now() + 72.hours());
    let another_day = another_day.strftime("%A").to_string().to_lowercase();
    assert!(text.contains(MAINTENANCE));
    text.replace(MAINTENANCE, &format!("weekdays: [{another_day}]"))
}

const MAINTENANCE: &str = "weekdays: [sunday], times: [{ start_time: '02:00', end_time: '04:00' }]";

fn read(file: &str) -> String {
    std::fs::read_to_string(project().join(file)).unwrap()
}

/// An Alertmanager with a configuration; ended with the test.
struct Alertmanager {
    process: Child,
    url: String,
    _run: TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Alertmanager {
    fn start(program: &Path, inbox: &Inbox, config: &str, more: &[String]) -> Self {
        let run = tempfile::tempdir().unwrap();
        std::fs::write(run.path().join("alertmanager.yml"), config).unwrap();
        let templates = run.path().join("templates");
        std::fs::create_dir(&templates).unwrap();
        for file in std::fs::read_dir(project().join("alertmanager/templates")).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            // A link has an address that is the same in every run.
            std::fs::write(templates.join(file.file_name()), text).unwrap();
        }
        std::os::unix::fs::symlink(inbox.dir.path().join("secrets"), run.path().join("secrets"))
            .unwrap();
        let port = free_port();
        let mut command = of(program);
        command
            .current_dir(run.path())
            .args(["--config.file=alertmanager.yml", "--storage.path=data"])
            .arg("--web.external-url=http://alertmanager.invalid")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(run.path().join("log")).unwrap());
        if more.is_empty() {
            command.arg("--cluster.listen-address=");
        }
        let process = command.args(more).spawn().unwrap();
        let mut it = Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            _run: run,
        };
        eventually("Alertmanager is ready", || {
            if it.process.try_wait().unwrap().is_some() {
                let log = std::fs::read_to_string(it._run.path().join("log"));
                panic!("Alertmanager has ended: {}", log.unwrap());
            }
            let ready = block_on(reqwest::get(format!("{}/-/ready", it.url)));
            ready.is_ok_and(|it| it.status().is_success())
        });
        it
    }

    /// Sends alerts: labels, and when they end.
    fn alerts(&self, alerts: &[Value]) {
        let url = format!("{}/api/v2/alerts", self.url);
        let request = reqwest::Client::new().post(url).json(&alerts);
        let answer = block_on(request.send()).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Those that Alertmanager knows, by name, with the fingerprints of what silences them.
    fn inhibited(&self) -> BTreeMap<String, bool> {
        let url = format!("{}/api/v2/alerts", self.url);
        let alerts: Vec<Value> =
            block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() });
        let name = |alert: &Value| alert["annotations"]["case"].as_str().unwrap().to_owned();
        let silent = |alert: &Value| {
            !alert["status"]["inhibitedBy"]
                .as_array()
                .unwrap()
                .is_empty()
        };
        alerts.iter().map(|it| (name(it), silent(it))).collect()
    }
}

/// A program of Debian's, unpacked in the cache, finds its files where the package would have put them.
fn of(program: &Path) -> Command {
    let share = program.ancestors().nth(2).unwrap().join("share");
    if !share.join("prometheus/alertmanager").is_dir() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--map-root-user", "--kill-child", "sh", "-c"])
        .arg("mount -t overlay overlay -o \"lowerdir=$1:/usr/share\" /usr/share && shift && exec \"$@\"")
        .arg("sh")
        .arg(share)
        .arg(program);
    command
}

/// Both Alertmanagers: today's, and the oldest.
fn programs() -> Option<[PathBuf; 2]> {
    let programs = ["alertmanager", "alertmanager-0.25"].map(program);
    if let [Some(new), Some(old)] = programs {
        return Some([new, old]);
    }
    skip("not installed; get it with `lab install alertmanager alertmanager-0.25`");
    None
}

fn alert(labels: &Value) -> Value {
    let mut labels = labels.clone();
    let name = labels["alertname"].as_str().unwrap().to_owned();
    labels["team"] = labels.get("team").cloned().unwrap_or("shop".into());
    json!({
        "labels": labels,
        "annotations": {
            "summary": format!("{name} in short"),
            "description": format!("{name} at length"),
            "runbook_url": format!("docs/alerting-playbook.md#{}", name.to_lowercase()),
            "dashboard_url": "http://localhost:3000/d/flask-api",
        },
        // Not left to Alertmanager, which takes what is older than group_wait for late already.
        "startsAt": Timestamp::now().to_string(),
        "generatorURL": "http://prometheus.invalid/graph",
    })
}

/// With times that a test can name.
fn long_ago(mut alert: Value) -> Value {
    alert["startsAt"] = "2026-01-01T00:00:00Z".into();
    alert
}

fn ended(mut alert: Value) -> Value {
    alert["endsAt"] = Timestamp::now().to_string().into();
    alert
}

#[test]
fn amtool_finds_nothing_to_complain_about() {
    let Some([_, old]) = programs() else { return };
    let output = Command::new(old.with_file_name("amtool"))
        .args(["check-config", "alertmanager.yml"])
        .current_dir(project().join("alertmanager"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn every_file_of_templates_is_read_and_every_template_is_there() {
    let config = read("alertmanager/alertmanager.yml");
    assert!(config.contains("- templates/*.tmpl"));
    let mut defined = BTreeSet::new();
    let mut used = BTreeSet::new();
    let names = |text: &str, keyword: &str| -> BTreeSet<String> {
        let start = format!("{keyword} \"");
        let starts = text.split(start.as_str()).skip(1);
        starts
            .map(|rest| rest[..rest.find('"').unwrap()].to_owned())
            .collect()
    };
    for file in std::fs::read_dir(project().join("alertmanager/templates")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(
            file.extension().unwrap(),
            "tmpl",
            "nobody reads {}",
            file.display()
        );
        let text = std::fs::read_to_string(file).unwrap();
        defined.extend(names(&text, "define"));
        used.extend(names(&text, "template"));
    }
    used.extend(names(&config, "template"));
    assert_eq!(used, defined);
}

// --- routing --------------------------------------------------------------------

/// Hours of an organisation: who is on call and what is muted depends on them. Alertmanager is a Go program, whose clock no library
/// can fake, so the hour comes to the clock: rotation and maintenance are written such that now is of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hour {
    Business,
    Night,
    Holiday,
    Maintenance,
}

/// The committed rotation and configuration, with `now` being such an hour. Gives the configuration and who is on call.
fn at(hour: Hour, config: &str) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["alertmanager", "prometheus"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("prometheus/prometheus.yml"), "").unwrap();
    let now = Timestamp::now();
    let rotation = read("alertmanager/oncall.yaml");
    let local = TimeZone::get("Europe/Berlin").unwrap().to_datetime(now);
    let hours = |from: &str, until: &str| {
        rotation
            .replace("from: \"09:00\"", &format!("from: \"{from}\""))
            .replace("until: \"17:00\"", &format!("until: \"{until}\""))
            .replace(
                "[monday, tuesday, wednesday, thursday, friday]",
                "[monday, tuesday, wednesday, thursday, friday, saturday, sunday]",
            )
    };
    let rotation = match hour {
        Hour::Business | Hour::Maintenance => hours("00:00", "23:59"),
        // Hours that are not now, and not soon.
        Hour::Night if local.hour() < 12 => hours("18:00", "19:00"),
        Hour::Night => hours("06:00", "07:00"),
        Hour::Holiday => hours("00:00", "23:59").replace(
            "holidays:\n",
            &format!(
                "holidays:\n  - {{ date: {}, name: today }}\n  - {{ date: {}, name: tomorrow }}\n",
                local.date(),
                local.date().tomorrow().unwrap()
            ),
        ),
    };
    let config = match hour {
        Hour::Maintenance => {
            let maintenance = config.split("weekdays: [").nth(1).unwrap();
            let day = &maintenance[..maintenance.find(']').unwrap()];
            config.replace(
                &format!("weekdays: [{day}]"),
                "weekdays: ['sunday:saturday']",
            )
        }
        _ => config.to_owned(),
    };
    let file = |name: &str| dir.path().join("alertmanager").join(name);
    std::fs::write(file("oncall.yaml"), rotation).unwrap();
    std::fs::write(file("alertmanager.yml"), config).unwrap();
    let run = |args: &[&str]| {
        let output = lab(&["oncall"])
            .args(args)
            .arg("--project")
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        output.stdout
    };
    // Rendered of the rotation, and asked of the rotation: two ways to the same answer.
    run(&["render"]);
    let who: Value = serde_json::from_slice(&run(&["who", "--json"])).unwrap();
    let handle = who["primary"]["handle"].as_str().unwrap();
    (
        std::fs::read_to_string(file("alertmanager.yml")).unwrap(),
        format!("oncall-{handle}"),
    )
}

/// Who is told of what: the table of docs/alerting.md.
fn expected(severity: &str, team: &str, hour: Hour, on_call: &str) -> Vec<String> {
    let slack = format!("slack-{team}");
    match (severity, hour) {
        ("critical", _) => vec![on_call.to_owned(), slack],
        ("warning", Hour::Maintenance) => vec![],
        ("warning", _) => vec![slack],
        ("info", _) => vec![format!("email-{team}")],
        (other, _) => panic!("{other}"),
    }
}

#[test]
fn each_severity_of_each_team_reaches_whom_it_should_at_every_kind_of_hour() {
    let Some(programs) = programs() else { return };
    let mut people = BTreeSet::new();
    for hour in [
        Hour::Business,
        Hour::Night,
        Hour::Holiday,
        Hour::Maintenance,
    ] {
        for program in &programs {
            let inbox = Inbox::start(600);
            let (config, on_call) = at(hour, &config(&inbox));
            let alertmanager = Alertmanager::start(program, &inbox, &config, &[]);
            let cases: Vec<(&str, &str)> = ["critical", "warning", "info"]
                .iter()
                .flat_map(|severity| [(*severity, "shop"), (*severity, "platform")])
                .collect();
            let name = |(severity, team): (&str, &str)| format!("Case-{severity}-{team}");
            let of = |&case: &(&str, &str)| {
                alert(
                    &json!({ "alertname": name(case), "severity": case.0, "team": case.1, "service": case.1 }),
                )
            };
            alertmanager.alerts(&cases.iter().map(of).collect::<Vec<_>>());
            for &(severity, team) in &cases {
                let mut wanted = expected(severity, team, hour, &on_call);
                wanted.sort();
                let what = format!("{severity} of {team}, {hour:?}, reaches {wanted:?}");
                eventually(&what, || {
                    inbox.told(&name((severity, team)), "firing") == wanted
                });
            }
            alertmanager.alerts(&cases.iter().map(|it| ended(of(it))).collect::<Vec<_>>());
            for &(severity, team) in &cases {
                let mut wanted = expected(severity, team, hour, &on_call);
                wanted.sort();
                let what = format!("{severity} of {team}, {hour:?}, is resolved at {wanted:?}");
                eventually(&what, || {
                    inbox.told(&name((severity, team)), "resolved") == wanted
                });
                // And nobody was told twice.
                assert_eq!(inbox.told(&name((severity, team)), "firing"), wanted);
            }
            assert_eq!(inbox.refused(), [] as [Value; 0]);
            people.insert(on_call);
        }
    }
    // Business hours and nights have different people, or the hours would show nothing.
    assert!(people.len() > 1, "{people:?}");
}

// --- inhibition ------------------------------------------------------------------

/// A cause, what it silences, and what it must leave alone.
type Case = (
    Value,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

/// Labels as `name=value,name=value`.
fn labels(name: &str, text: &str) -> Value {
    let mut labels = json!({ "alertname": name, "severity": "warning" });
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        labels[name] = value.into();
    }
    labels
}

fn cases() -> Vec<Case> {
    vec![
        (
            labels("ServiceDown", "service=a,job=flask-api"),
            &[
                ("HighErrorRate", "service=a,severity=critical"),
                ("HighLatency", "service=a"),
                ("AvailabilityBudgetBurn", "service=a,sloth_id=a"),
            ],
            &[
                ("HighErrorRate", "service=b"),
                ("ServiceMissing", "service=a,job=x"),
                ("Watchdog", "service=a"),
                ("NodeDiskFull", ""),
            ],
        ),
        (
            labels("ServiceMissing", "job=c"),
            &[("HighErrorRate", "service=c,job=c")],
            &[
                ("HighErrorRate", "service=d,job=d"),
                ("NodeNetworkErrors", ""),
            ],
        ),
        (
            labels("ServiceDown", "service=payments,job=payments"),
            &[
                ("DependencyFailing", "service=e,dependency=payments"),
                ("CircuitBreakerOpen", "service=e2,dependency=payments"),
            ],
            &[
                ("DependencyFailing", "service=f,dependency=bank"),
                ("HighErrorRate", "service=e"),
            ],
        ),
        (
            labels("ReplicaDown", "job=g,instance=g1"),
            &[("FileDescriptorsRunningOut", "job=g,instance=g1")],
            &[
                ("FileDescriptorsRunningOut", "job=g,instance=g2"),
                ("HighErrorRate", "job=g,instance=g1,severity=critical"),
            ],
        ),
        (
            labels("AvailabilityBudgetBurn", "sloth_id=h,sloth_severity=page"),
            &[("AvailabilityBudgetBurn", "sloth_id=h,sloth_severity=ticket")],
            &[("LatencyBudgetBurn", "sloth_id=i,sloth_severity=ticket")],
        ),
        (
            labels("DependencyFailing", "service=j,dependency=bank"),
            &[
                ("DependencySlow", "service=j,dependency=bank"),
                ("CircuitBreakerOpen", "service=j,dependency=bank"),
            ],
            &[("DependencySlow", "service=j,dependency=mail")],
        ),
        (
            labels("ElasticsearchDown", "service=elasticsearch"),
            &[
                ("ElasticsearchRed", ""),
                ("LogsNotDelivered", ""),
                ("LogShipperBehind", ""),
                ("LogLinesRejected", ""),
                ("ProbeFailing", "service=elasticsearch,instance=es"),
            ],
            &[
                ("LogLinesDropped", ""),
                ("ProbeFailing", "service=k,instance=k"),
            ],
        ),
        (
            labels("LogShipperDown", "service=otel-collector"),
            &[("ElasticsearchHeapHigh", ""), ("ElasticsearchDiskLow", "")],
            &[("JaegerDroppingSpans", "service=l")],
        ),
        (
            labels("KubeNodeNotReady", "node=n"),
            &[("KubePodNotReady", ""), ("NodeMemoryLow", "instance=n")],
            &[("KubeVolumeFillingUp", "")],
        ),
        (
            labels("ProbeFailing", "instance=o,service=o"),
            &[("ProbeSlow", "instance=o,service=o")],
            &[("ProbeSlow", "instance=p,service=p")],
        ),
        (
            labels("AlertmanagerDown", "service=alertmanager"),
            &[("PrometheusNotificationsFailing", "")],
            &[("PrometheusRuleFailures", "")],
        ),
    ]
}

/// Every rule by itself, so that no other can silence for it.
#[test]
fn a_cause_silences_what_follows_from_it_and_nothing_else() {
    let Some(programs) = programs() else { return };
    let mut seen = 0;
    for (cause, silenced, left_alone) in cases() {
        for program in &programs {
            let inbox = Inbox::start(600);
            let alertmanager = Alertmanager::start(program, &inbox, &config(&inbox), &[]);
            let mut alerts = vec![(cause.clone(), false)];
            alerts.extend(
                silenced
                    .iter()
                    .map(|(name, more)| (labels(name, more), true)),
            );
            alerts.extend(
                left_alone
                    .iter()
                    .map(|(name, more)| (labels(name, more), false)),
            );
            let sent: Vec<Value> = alerts
                .iter()
                .enumerate()
                .map(|(number, (labels, _))| {
                    let mut alert = alert(labels);
                    alert["annotations"]["case"] = format!("{number}").into();
                    alert
                })
                .collect();
            alertmanager.alerts(&sent);
            let wanted: BTreeMap<String, bool> = alerts
                .iter()
                .enumerate()
                .map(|(number, (_, silent))| (number.to_string(), *silent))
                .collect();
            eventually(&format!("{alerts:#?} as told by Alertmanager"), || {
                alertmanager.inhibited() == wanted
            });
            // The cause ends: what follows from it is told after all, if it is still there.
            alertmanager.alerts(&[ended(sent[0].clone())]);
            eventually("nothing is silenced any more", || {
                alertmanager.inhibited().values().all(|silent| !silent)
            });
        }
        seen += silenced.len();
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn an_outage_of_twenty_alerts_is_two_messages() {
    let Some(programs) = programs() else { return };
    for program in &programs {
        let inbox = Inbox::start(600);
        let alertmanager = Alertmanager::start(program, &inbox, &config(&inbox), &[]);
        let name = |number: usize| match number {
            0 => "ServiceDown".to_owned(),
            number => format!("Symptom{number}"),
        };
        let severity = |number: usize| ["critical", "warning", "info"][number % 3];
        let all: Vec<Value> = (0..20)
            .map(|it| alert(&json!({ "alertname": name(it), "severity": severity(it), "service": "flask-api" })))
            .collect();
        alertmanager.alerts(&all);
        eventually("the cause is told", || inbox.messages().len() >= 2);
        // The same twenty without a cause are 20 groups: 6 critical to two receivers each, 7 warnings, 6 infos. They
        // come after those above, so that those had their time.
        let others: Vec<Value> = (1..20)
            .map(|it| alert(&json!({ "alertname": name(it), "severity": severity(it), "service": "payments" })))
            .collect();
        alertmanager.alerts(&others);
        let wanted = 2 * 6 + 7 + 6;
        eventually("every symptom without a cause is told", || {
            inbox.messages().len() >= 2 + wanted
        });
        let of_cause: Vec<(String, String)> = inbox
            .messages()
            .iter()
            .filter(|it| {
                it["payload"].to_string().contains("flask-api)")
                    || it["payload"]["payload"]["component"] == "flask-api"
            })
            .map(|it| {
                (
                    it["channel"].as_str().unwrap().into(),
                    it["alerts"][0].as_str().unwrap().into(),
                )
            })
            .collect();
        let mut of_cause = of_cause;
        of_cause.sort();
        let pair = |channel: &str| (channel.to_owned(), "ServiceDown".to_owned());
        assert_eq!(of_cause, [pair("pagerduty"), pair("slack")]);
    }
}

// --- receivers that have a bad day -----------------------------------------------

#[test]
fn a_receiver_that_was_away_gets_everything_once_it_is_back() {
    let Some([program, _]) = programs() else {
        return;
    };
    let inbox = Inbox::start(600);
    let alertmanager = Alertmanager::start(&program, &inbox, &config(&inbox), &[]);
    // One channel for each kind of trouble.
    for (channel, trouble) in [
        ("slack", "down"),
        ("pagerduty", "broken"),
        ("email", "too-many"),
    ] {
        inbox.trouble(channel, Some(trouble));
    }
    let page =
        alert(&json!({ "alertname": "Page", "severity": "critical", "service": "flask-api" }));
    let mail = alert(&json!({ "alertname": "Mail", "severity": "info", "service": "flask-api" }));
    alertmanager.alerts(&[page.clone(), mail.clone()]);
    for channel in ["slack", "pagerduty", "email"] {
        eventually(&format!("{channel} refuses more than once"), || {
            inbox
                .refused()
                .iter()
                .filter(|it| it["channel"] == channel)
                .count()
                > 1
        });
    }
    assert_eq!(inbox.messages(), [] as [Value; 0]);
    for channel in ["slack", "pagerduty", "email"] {
        inbox.trouble(channel, None);
    }
    eventually("everybody is told", || {
        inbox.told("Page", "firing").len() == 2 && inbox.told("Mail", "firing").len() == 1
    });
    alertmanager.alerts(&[ended(page), ended(mail)]);
    eventually("everybody is told of the end", || {
        inbox.told("Page", "resolved").len() == 2 && inbox.told("Mail", "resolved").len() == 1
    });
    assert_eq!(inbox.told("Page", "firing").len(), 2);
}

#[test]
fn one_of_two_alertmanagers_is_enough() {
    let Some([program, _]) = programs() else {
        return;
    };
    let inbox = Inbox::start(600);
    let ports = [free_port(), free_port()];
    let flags = |own: usize| {
        vec![
            format!("--cluster.listen-address=127.0.0.1:{}", ports[own]),
            format!("--cluster.peer=127.0.0.1:{}", ports[1 - own]),
            "--cluster.settle-timeout=2s".into(),
            "--cluster.peer-timeout=2s".into(),
            "--cluster.gossip-interval=50ms".into(),
            "--cluster.pushpull-interval=1s".into(),
        ]
    };
    let start = |own| Alertmanager::start(&program, &inbox, &config(&inbox), &flags(own));
    let mut both = vec![start(0), start(1)];
    let peers = |it: &Alertmanager| {
        let url = format!("{}/api/v2/status", it.url);
        let status: Value =
            block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() });
        status["cluster"]["peers"].as_array().map_or(0, Vec::len)
    };
    eventually("they know each other", || {
        both.iter().all(|it| peers(it) == 2)
    });
    let of = |name: &str| {
        alert(&json!({ "alertname": name, "severity": "warning", "service": "flask-api" }))
    };
    // Prometheus sends to both; together they tell once. The second group comes after the first had its time in both.
    for name in ["First", "Second"] {
        for it in &both {
            it.alerts(&[of(name)]);
        }
        eventually("the team is told", || {
            !inbox.told(name, "firing").is_empty()
        });
    }
    eventually("both have tried", || {
        both.iter().all(|it| {
            let url = format!("{}/api/v2/alerts/groups", it.url);
            let groups: Vec<Value> =
                block_on(async { reqwest::get(url).await.unwrap().json().await.unwrap() });
            groups.len() == 2
        })
    });
    assert_eq!(inbox.told("First", "firing"), ["slack-shop"]);
    // One dies with an alert in its hands.
    for it in &both {
        it.alerts(&[of("Third")]);
    }
    drop(both.remove(0));
    eventually("the other one tells", || {
        !inbox.told("Third", "firing").is_empty()
    });
}

#[test]
fn the_dead_mans_switch_hears_and_misses_the_watchdog() {
    let Some([program, _]) = programs() else {
        return;
    };
    let inbox = Inbox::start(4);
    let config = config(&inbox);
    let watchdog = |until: Timestamp| {
        let mut it = alert(&json!({ "alertname": "Watchdog", "severity": "none" }));
        it["endsAt"] = until.to_string().into();
        it
    };
    let state = || inbox.ask("messages")["dead_mans_switch"]["state"].clone();
    let alarms = |status: &str| inbox.told("DeadMansSwitch", status).len();
    let alertmanager = Alertmanager::start(&program, &inbox, &config, &[]);
    // Prometheus says until when its alert is good. It is gone, so nobody says it again: the alert ends, and Alertmanager tells.
    alertmanager.alerts(&[watchdog(Timestamp::now() + 2.seconds())]);
    eventually("it hears", || state() == "alive");
    let before = alarms("firing");
    eventually("the watchdog's end is an alarm", || {
        alarms("firing") == before + 1
    });
    let ends = alarms("resolved");
    alertmanager.alerts(&[watchdog(Timestamp::now() + 600.seconds())]);
    eventually("it hears again", || {
        state() == "alive" && alarms("resolved") == ends + 1
    });
    // Alertmanager is gone.
    drop(alertmanager);
    eventually("silence is an alarm", || alarms("firing") == before + 2);
    assert_eq!(state(), "silent");
}

// --- templates --------------------------------------------------------------------

/// What a channel received of an alert's group, newest.
fn payload(inbox: &Inbox, channel: &str, alert: &str, status: &str) -> Value {
    let mut found = Value::Null;
    eventually(&format!("{channel} has {alert} {status}"), || {
        let messages = inbox.messages();
        let message = messages.iter().rev().find(|it| {
            it["channel"] == channel && it["status"] == status && it["alerts"][0] == alert
        });
        found = message.map_or(Value::Null, |it| it["payload"].clone());
        !found.is_null()
    });
    found
}

#[test]
fn messages_say_what_people_need() {
    let Some(programs) = programs() else { return };
    for program in &programs {
        let inbox = Inbox::start(600);
        let alertmanager = Alertmanager::start(program, &inbox, &config(&inbox), &[]);
        let one = long_ago(alert(
            &json!({ "alertname": "One", "severity": "critical", "service": "flask-api", "instance": "127.0.0.1:5100" }),
        ));
        let mail = long_ago(alert(
            &json!({ "alertname": "Mail", "severity": "info", "service": "flask-api", "instance": "127.0.0.1:5100" }),
        ));
        alertmanager.alerts(&[one.clone(), mail.clone()]);

        let slack = payload(&inbox, "slack", "One", "firing");
        let attachment = &slack["attachments"][0];
        assert_eq!(attachment["title"], "[FIRING:1] One (flask-api)");
        assert_eq!(attachment["color"], "danger");
        assert_eq!(
            attachment["text"],
            "*One in short*\n• One at length `127.0.0.1:5100` since 00:00:00 UTC\n"
        );
        assert_eq!(attachment["footer"], "critical, team shop");
        let buttons: Vec<&str> = attachment["actions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["url"].as_str().unwrap())
            .collect();
        assert_eq!(
            buttons,
            [
                "http://127.0.0.1:8000/docs/alerting-playbook.md#one",
                "http://localhost:3000/d/flask-api",
                "http://alertmanager.invalid/#/silences/new?filter=%7Balertname%3D%22One%22%2Cservice%3D%22flask-api%22%7D",
            ]
        );

        let page = payload(&inbox, "pagerduty", "One", "firing");
        let event = &page["payload"];
        assert_eq!(event["summary"], "One flask-api: One in short");
        assert_eq!(
            (&event["severity"], &event["source"]),
            (&json!("critical"), &json!("127.0.0.1:5100"))
        );
        assert_eq!(
            (&event["component"], &event["group"]),
            (&json!("flask-api"), &json!("shop"))
        );
        let firing = event["custom_details"]["firing"].as_str().unwrap();
        assert!(
            firing.starts_with("One at length\n  alertname=One\n"),
            "{firing}"
        );
        assert!(
            firing.contains("since 2026-01-01 00:00:00 UTC, http://prometheus.invalid/graph"),
            "{firing}"
        );
        assert_eq!(page["links"].as_array().unwrap().len(), 3);

        let message = payload(&inbox, "email", "Mail", "firing");
        assert_eq!(message["subject"], "[FIRING:1] Mail (flask-api)");
        for kind in ["text", "html"] {
            let body = message[kind].as_str().unwrap();
            for part in [
                "Mail in short",
                "Mail at length",
                "2026-01-01 00:00:00",
                "127.0.0.1:5100",
                "http://127.0.0.1:8000/docs/alerting-playbook.md#mail",
                "http://localhost:3000/d/flask-api",
            ] {
                assert!(body.contains(part), "{kind} without {part}: {body}");
            }
        }

        alertmanager.alerts(&[ended(one), ended(mail)]);
        let slack = payload(&inbox, "slack", "One", "resolved");
        assert_eq!(
            slack["attachments"][0]["title"],
            "[RESOLVED] One (flask-api)"
        );
        assert_eq!(slack["attachments"][0]["color"], "good");
        let body = slack["attachments"][0]["text"].as_str().unwrap();
        assert!(
            body.starts_with(
                "*One in short*\n*Resolved*\n• One at length `127.0.0.1:5100` 00:00:00 to "
            ),
            "{body}"
        );
        assert_eq!(
            payload(&inbox, "pagerduty", "One", "resolved")["dedup_key"],
            page["dedup_key"]
        );
        assert_eq!(
            payload(&inbox, "email", "Mail", "resolved")["subject"],
            "[RESOLVED] Mail (flask-api)"
        );
        assert_eq!(inbox.refused(), [] as [Value; 0]);
    }
}

/// What breaks out of markup, pings everybody, forges a title or goes on for ever.
const HOSTILE: &str = "<!channel> &amp; <http://evil.invalid|click> \"quoted\" \\ {{ .Labels }} </td><script>alert(1)</script>\r\n[RESOLVED] Two";

#[test]
fn hostile_long_and_many_alerts_stay_within_the_providers_rules() {
    let Some(programs) = programs() else { return };
    for program in &programs {
        let inbox = Inbox::start(600);
        let alertmanager = Alertmanager::start(program, &inbox, &config(&inbox), &[]);
        let long = "ä".repeat(20_000);
        for severity in ["critical", "info"] {
            let name = format!("Many-{severity}");
            let many: Vec<Value> = (0..60)
                .map(|number| {
                    let mut it = alert(&json!({
                        "alertname": name, "severity": severity, "service": HOSTILE,
                        "instance": format!("{number} {HOSTILE}"), "long": long,
                    }));
                    it["annotations"]["description"] = format!("{HOSTILE} {long}").into();
                    it["annotations"]["summary"] = HOSTILE.into();
                    it
                })
                .collect();
            // As many as fit into one request.
            for part in many.chunks(10) {
                alertmanager.alerts(part);
            }
        }
        let slack = payload(&inbox, "slack", "Many-critical", "firing");
        let all = slack.to_string();
        assert!(
            !all.contains("<!channel>") && !all.contains("<http"),
            "{all}"
        );
        assert!(all.contains("&lt;!channel&gt;") && all.contains("&amp;amp;"));
        let body = slack["attachments"][0]["text"].as_str().unwrap();
        assert_eq!(body.matches('•').count(), 10);
        let page = payload(&inbox, "pagerduty", "Many-critical", "firing");
        assert!(page["payload"]["summary"].as_str().unwrap().chars().count() <= 1024);
        let message = payload(&inbox, "email", "Many-info", "firing");
        let html = message["html"].as_str().unwrap();
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"));
        assert!(!message["subject"].as_str().unwrap().contains('\n'));
        eventually("all sixty", || {
            let slack = payload(&inbox, "slack", "Many-critical", "firing");
            slack["attachments"][0]["title"]
                .as_str()
                .unwrap()
                .starts_with("[FIRING:60] ")
        });
        assert_eq!(inbox.refused(), [] as [Value; 0]);
    }
}
