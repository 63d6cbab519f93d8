//! The components of a lab, one row each: the only place that knows their ports, versions and
//! command lines.

use std::path::Path;

use crate::{
    Component, Error, HOST, Health, Launch, Launching, Port, Probe, Probed, Scrape, Setup, Source,
    certificate,
    layout::{files_in, link, make_dir, remove_dir, write_atomically},
    notification::{self, Addresses},
};

const fn port(name: &'static str, default: u16) -> Port {
    Port { name, default }
}

const fn health(port: &'static str, path: &'static str) -> Option<Health> {
    Some(Health { port, path })
}

const fn scrape(job: &'static str, port: &'static str, service: &'static str) -> Scrape {
    Scrape { job, port, service }
}

const fn probe(port: &'static str, of: Probed, service: &'static str) -> Probe {
    Probe { port, of, service }
}

const fn put(path: &'static str, file: &'static str) -> Setup {
    Setup {
        port: "http",
        path,
        file,
        unless: None,
    }
}

/// What most rows have in common, and what the lab does not start has altogether.
const PLAIN: Component = Component {
    name: "",
    role: "",
    source: Source::Ours,
    ports: &[],
    health: None,
    setup: &[],
    scrape: &[],
    probes: &[],
    after: &[],
    tier: 0,
    launch: None,
};

/// Every component, in the order in which people read them.
pub const COMPONENTS: &[Component] = &[
    Component {
        name: "flask-api-1",
        role: "demo API, replica 1",
        source: Source::Ours,
        ports: &[port("http", 5000), port("https", 5443), port("admin", 5100)],
        health: health("admin", "/readyz"),
        scrape: &[scrape("flask-api", "admin", "flask-api")],
        probes: &[
            probe("http", Probed::Page("/healthz"), "flask-api"),
            probe("https", Probed::Tls, "flask-api"),
        ],
        after: &["payments"],
        tier: 3,
        launch: Some(flask_api),
        ..PLAIN
    },
    Component {
        name: "flask-api-2",
        role: "demo API, replica 2",
        source: Source::Ours,
        ports: &[port("http", 5001), port("https", 5444), port("admin", 5101)],
        health: health("admin", "/readyz"),
        scrape: &[scrape("flask-api", "admin", "flask-api")],
        probes: &[
            probe("http", Probed::Page("/healthz"), "flask-api"),
            probe("https", Probed::Tls, "flask-api"),
        ],
        after: &["payments"],
        tier: 3,
        launch: Some(flask_api),
        ..PLAIN
    },
    Component {
        name: "payments",
        role: "service the API depends on",
        source: Source::Ours,
        ports: &[port("http", 5010), port("admin", 5110)],
        health: health("admin", "/readyz"),
        scrape: &[scrape("payments", "admin", "payments")],
        probes: &[probe("http", Probed::Page("/healthz"), "payments")],
        tier: 2,
        launch: Some(payments),
        ..PLAIN
    },
    Component {
        name: "custom-flask-exporter",
        role: "business metrics of the shop",
        source: Source::Ours,
        ports: &[port("http", 9848)],
        health: health("http", "/healthz"),
        scrape: &[scrape(
            "custom-flask-exporter",
            "http",
            "custom-flask-exporter",
        )],
        tier: 3,
        launch: Some(custom_flask_exporter),
        ..PLAIN
    },
    Component {
        name: "loadgen",
        role: "steady traffic",
        source: Source::Ours,
        ports: &[port("metrics", 9849)],
        health: health("metrics", "/metrics"),
        scrape: &[scrape("loadgen", "metrics", "loadgen")],
        after: &["flask-api-1", "flask-api-2"],
        tier: 4,
        launch: Some(loadgen),
        ..PLAIN
    },
    Component {
        name: "console",
        role: "pages to look at, and the inbox",
        source: Source::Ours,
        ports: &[port("http", 8000), port("smtp", 1025)],
        health: health("http", "/healthz"),
        probes: &[
            probe("http", Probed::Page("/healthz"), "console"),
            probe("smtp", Probed::Port, "console"),
        ],
        tier: 0,
        launch: Some(console),
        ..PLAIN
    },
    Component {
        name: "prometheus",
        role: "metrics: collection and storage",
        source: Source::Debian {
            package: "prometheus",
            program: "usr/bin/prometheus",
        },
        ports: &[port("http", 9090)],
        health: health("http", "/-/ready"),
        scrape: &[scrape("prometheus", "http", "prometheus")],
        tier: 0,
        launch: Some(prometheus),
        ..PLAIN
    },
    Component {
        name: "alertmanager",
        role: "alert routing and silencing",
        // Built rather than taken from Debian, whose package has no web interface and looks for its
        // templates in a fixed place.
        source: Source::Go {
            module: "tools/alertmanager",
            package: "github.com/prometheus/alertmanager/cmd/alertmanager",
            tags: "",
            version_variable: "github.com/prometheus/common/version.Version",
            version: "0.31.1",
        },
        ports: &[port("http", 9093)],
        health: health("http", "/-/ready"),
        scrape: &[scrape("alertmanager", "http", "alertmanager")],
        // So that nothing is sent in vain.
        after: &["console"],
        tier: 1,
        launch: Some(alertmanager),
        ..PLAIN
    },
    Component {
        name: "node_exporter",
        role: "metrics of this machine",
        source: Source::Debian {
            package: "prometheus-node-exporter",
            program: "usr/bin/prometheus-node-exporter",
        },
        ports: &[port("http", 9100)],
        health: health("http", "/metrics"),
        scrape: &[scrape("node", "http", "node")],
        tier: 1,
        launch: Some(node_exporter),
        ..PLAIN
    },
    Component {
        name: "blackbox_exporter",
        role: "probes endpoints from outside",
        source: Source::Debian {
            package: "prometheus-blackbox-exporter",
            program: "usr/bin/prometheus-blackbox-exporter",
        },
        ports: &[port("http", 9115)],
        health: health("http", "/-/healthy"),
        scrape: &[scrape("blackbox", "http", "blackbox")],
        tier: 1,
        launch: Some(blackbox_exporter),
        ..PLAIN
    },
    Component {
        name: "cadvisor",
        role: "metrics of this machine's containers",
        source: Source::Go {
            module: "tools/cadvisor",
            package: ".",
            tags: "",
            version_variable: "main.version",
            version: "0.60.6",
        },
        ports: &[port("http", 8080)],
        health: health("http", "/metrics"),
        scrape: &[scrape("cadvisor", "http", "cadvisor")],
        tier: 1,
        launch: Some(cadvisor),
        ..PLAIN
    },
    Component {
        name: "jaeger",
        role: "traces: storage and search",
        source: Source::Go {
            module: "tools/jaeger",
            package: "github.com/jaegertracing/jaeger/cmd/jaeger",
            tags: "",
            version_variable: "github.com/jaegertracing/jaeger/internal/version.latestVersion",
            // Jaeger tags a v1 and a v2 release together: v1.76.0 in go.mod is v2.13.0.
            version: "v2.13.0",
        },
        ports: &[
            port("http", 16686),
            port("query-grpc", 16685),
            port("otlp-grpc", 4317),
            port("otlp-http", 4318),
            port("metrics", 8888),
            port("spanmetrics", 8889),
            port("health", 13133),
            port("sampling", 5778),
            port("sampling-grpc", 5779),
        ],
        health: health("health", "/status"),
        scrape: &[
            scrape("jaeger", "metrics", "jaeger"),
            scrape("jaeger-spanmetrics", "spanmetrics", "jaeger"),
        ],
        probes: &[probe("otlp-http", Probed::Port, "jaeger")],
        tier: 0,
        launch: Some(jaeger),
        ..PLAIN
    },
    Component {
        name: "elasticsearch",
        role: "logs: storage and search",
        source: Source::Elasticsearch,
        ports: &[port("http", 9200), port("transport", 9300)],
        health: health("http", "/_cluster/health?wait_for_status=yellow&timeout=1s"),
        // What `elk/setup.sh` does elsewhere, without the lifecycle: the slim distribution has none (`lab` keeps it instead).
        setup: &[
            put("/_index_template/flask-logs", "elk/index-template.json"),
            put(
                "/_index_template/flask-logs-dead-letter",
                "elk/dead-letter-template.json",
            ),
            Setup {
                unless: Some("/_alias/flask-logs"),
                ..put("/flask-logs-000001", "elk/first-index.json")
            },
            Setup {
                unless: Some("/_alias/flask-logs-dead-letter"),
                ..put(
                    "/flask-logs-dead-letter-000001",
                    "elk/first-dead-letter-index.json",
                )
            },
        ],
        probes: &[probe(
            "http",
            Probed::Page("/_cluster/health"),
            "elasticsearch",
        )],
        tier: 0,
        launch: Some(elasticsearch),
        ..PLAIN
    },
    Component {
        name: "otelcol",
        role: "ships logs (OpenTelemetry Collector)",
        source: Source::Go {
            module: "tools/otelcol",
            package: ".",
            tags: "",
            version_variable: "main.version",
            version: "0.130.0",
        },
        ports: &[
            port("health", 13134),
            port("hop", 13135),
            port("metrics", 8890),
            port("elasticsearch", 8891),
        ],
        health: health("health", "/"),
        scrape: &[
            scrape("otel-collector", "metrics", "otel-collector"),
            scrape("elasticsearch", "elasticsearch", "elasticsearch"),
        ],
        // The index template has to be there before the first document.
        after: &["elasticsearch"],
        tier: 1,
        launch: Some(otelcol),
        ..PLAIN
    },
    Component {
        ports: &[port("http", 3000)],
        health: health("http", "/api/health"),
        tier: 1,
        launch: Some(grafana),
        probes: &[probe("http", Probed::Page("/api/health"), "grafana")],
        ..external(
            "grafana",
            "dashboards",
            "grafana",
            "get it from https://grafana.com/grafana/download",
        )
    },
    Component {
        ports: &[port("http", 5601)],
        probes: &[probe("http", Probed::Page("/api/status"), "kibana")],
        ..external(
            "kibana",
            "log visualisation",
            "kibana",
            "get it from https://www.elastic.co/downloads/kibana",
        )
    },
    external(
        "logstash",
        "log processing",
        "logstash",
        "get it from https://www.elastic.co/downloads/logstash",
    ),
    external(
        "filebeat",
        "log shipping",
        "filebeat",
        "get it from https://www.elastic.co/downloads/beats/filebeat",
    ),
    external(
        "fluent-bit",
        "log shipping",
        "fluent-bit",
        "get it from https://docs.fluentbit.io/manual/installation",
    ),
];

/// What only tests run: a Kubernetes API server, to hold manifests and service discovery against, the
/// Prometheus that clusters run, which Debian's, built without Kubernetes, is not; the oldest Alertmanager that our
/// configuration is for; the browser in which the console is looked at, and what judges whether everybody can read it.
pub const FOR_TESTS: &[Component] = &[
    Component {
        name: "chromium",
        role: "looks at the console, driven by chromedriver",
        source: Source::DebianTree {
            packages: &["chromium", "chromium-driver", "fonts-dejavu-core"],
            program: "usr/lib/chromium/chromium",
        },
        ..PLAIN
    },
    Component {
        name: "axe-core",
        role: "judges accessibility, in the browser",
        source: Source::Npm {
            package: "axe-core",
            version: "4.14.1",
            integrity: "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
            program: "package/axe.min.js",
        },
        ..PLAIN
    },
    Component {
        name: "alertmanager-0.25",
        role: "the oldest Alertmanager that alertmanager/ is for, and its amtool",
        source: Source::Debian {
            package: "prometheus-alertmanager",
            program: "usr/bin/prometheus-alertmanager",
        },
        ..PLAIN
    },
    Component {
        name: "etcd",
        role: "storage of the Kubernetes API server",
        source: Source::Debian {
            package: "etcd-server",
            program: "usr/bin/etcd",
        },
        ..PLAIN
    },
    Component {
        name: "kube-apiserver",
        role: "checks Kubernetes manifests",
        source: Source::Go {
            module: "tools/kube-apiserver",
            package: ".",
            tags: "",
            version_variable: "k8s.io/component-base/version.gitVersion",
            version: "v1.36.3",
        },
        ..PLAIN
    },
    Component {
        name: "kubectl",
        role: "talks to the Kubernetes API server",
        source: Source::Go {
            module: "tools/kube-apiserver",
            package: "k8s.io/kubernetes/cmd/kubectl",
            tags: "",
            version_variable: "k8s.io/component-base/version.gitVersion",
            version: "v1.36.3",
        },
        ..PLAIN
    },
    Component {
        name: "prometheus-3",
        role: "Prometheus with Kubernetes' service discovery",
        source: Source::Go {
            module: "tools/prometheus",
            package: "github.com/prometheus/prometheus/cmd/prometheus",
            tags: "remove_all_sd,enable_kubernetes_sd",
            version_variable: "github.com/prometheus/common/version.Version",
            // Module v0.316.0.
            version: "3.16.0",
        },
        ..PLAIN
    },
];

/// What no package registry has: the user brings it. Without a command line the lab does not start it, and says so.
const fn external(
    name: &'static str,
    role: &'static str,
    program: &'static str,
    cure: &'static str,
) -> Component {
    Component {
        name,
        role,
        source: Source::External { program, cure },
        ..PLAIN
    }
}

/// A component by name.
///
/// # Errors
/// When there is none, naming those there are.
pub fn find(name: &str) -> Result<&'static Component, Error> {
    COMPONENTS
        .iter()
        .chain(FOR_TESTS)
        .find(|component| component.name == name)
        .ok_or_else(|| Error::UnknownComponent {
            name: name.into(),
            known: COMPONENTS
                .iter()
                .chain(FOR_TESTS)
                .map(|component| component.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

/// A component that this table itself refers to; its test proves that all of those exist.
pub(crate) fn find_known(name: &str) -> &'static Component {
    find(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Environment of every program of ours that makes spans.
fn traced(launch: Launch, launching: &Launching<'_>) -> Launch {
    let launch = launch.env(
        "OTEL_RESOURCE_ATTRIBUTES",
        format!("service.instance.id={}", launching.component.name),
    );
    if launching.others.iter().all(|other| other.name != "jaeger") {
        return launch.env("OTEL_TRACES_EXPORTER", "none");
    }
    launch
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            launching.url_of("jaeger", "otlp-http"),
        )
        // A lesson should not wait five seconds for its traces.
        .env("OTEL_BSP_SCHEDULE_DELAY", "1000")
}

fn shop_url(launching: &Launching<'_>) -> String {
    format!("sqlite://{}", launching.layout.shop_database().display())
}

fn flask_api(launching: &Launching<'_>) -> Result<Launch, Error> {
    let [certificate, key] = certificate::ensure(&launching.layout.certificates())?;
    let launch = Launch {
        application_log: true,
        ..Launch::default()
    }
    .option("--listen", launching.address("http"))
    .option("--tls-listen", launching.address("https"))
    .option("--tls-certificate", certificate)
    .option("--tls-key", key)
    .option("--admin-listen", launching.address("admin"))
    .option("--payments-url", launching.url_of("payments", "http"))
    .option("--database-url", shop_url(launching))
    .option("--chaos-token-file", launching.layout.chaos_token_file());
    Ok(traced(launch, launching))
}

fn payments(launching: &Launching<'_>) -> Result<Launch, Error> {
    let launch = Launch {
        application_log: true,
        ..Launch::default()
    }
    .option("--listen", launching.address("http"))
    .option("--admin-listen", launching.address("admin"))
    .option("--chaos-token-file", launching.layout.chaos_token_file());
    Ok(traced(launch, launching))
}

fn custom_flask_exporter(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch {
        application_log: true,
        ..Launch::default()
    }
    .option("--listen", launching.address("http"))
    .option("--database-url", shop_url(launching))
    .option("--api-url", launching.url_of("flask-api-1", "http"))
    .env("OTEL_TRACES_EXPORTER", "none")
    .env(
        "OTEL_RESOURCE_ATTRIBUTES",
        format!("service.instance.id={}", launching.component.name),
    ))
}

/// Journeys a second of the steady traffic, which are ten requests a second: enough to see, little enough to keep a laptop
/// quiet.
const STEADY_RATE: &str = "4";

fn loadgen(launching: &Launching<'_>) -> Result<Launch, Error> {
    let launch = Launch::default()
        .arg("run")
        .arg(launching.url_of("flask-api-1", "http"))
        .arg(launching.url_of("flask-api-2", "http"))
        .option("--scenario", "shop")
        .option("--rate", STEADY_RATE)
        .option("--metrics-listen", launching.address("metrics"));
    Ok(traced(launch, launching))
}

fn prometheus(launching: &Launching<'_>) -> Result<Launch, Error> {
    let run = launching.run_dir()?;
    for file in files_in(&launching.layout.config("prometheus"), "yml")? {
        link(&file, &run.join(file.file_name().unwrap_or_default()))?;
    }
    if let Some(rules) = launching.slo_rules {
        write_atomically(&run.join("slo-rules.yml"), rules.as_bytes())?;
    }
    write_targets(launching, &run.join("targets"))?;
    let usr_share = Some(launching.installed.home.join("usr/share"));
    Ok(Launch {
        usr_share,
        ..Launch::default()
    }
    .option("--config.file", run.join("prometheus.yml"))
    .option("--storage.tsdb.path", launching.state_dir()?)
    // A little more than the period of the service level objectives.
    .option("--storage.tsdb.retention.time", "31d")
    .option("--storage.tsdb.retention.size", "2GB")
    .option("--web.listen-address", launching.address("http"))
    // What links in alerts begin with; unset, it is the machine's name, where nobody listens.
    .option(
        "--web.external-url",
        format!("http://{}", launching.address("http")),
    )
    .option("--enable-feature", "exemplar-storage,extra-scrape-metrics")
    // Alertmanager takes an alert for ended that it has not heard of for four times as long: when Prometheus dies, a minute
    // later, and the dead man's switch is told.
    .option("--rules.alert.resend-delay", "15s")
    // Lets a learner edit a rule and see it: POST /-/reload. It listens on loopback only.
    .arg("--web.enable-lifecycle"))
}

/// The service discovery files that `prometheus.yml` reads: the one fragment that differs between a
/// laptop, compose and Kubernetes.
fn write_targets(launching: &Launching<'_>, dir: &Path) -> Result<(), Error> {
    // What an earlier lab with other components left would be scraped in vain.
    remove_dir(dir)?;
    make_dir(dir)?;
    let mut jobs = std::collections::BTreeMap::<&str, Vec<serde_json::Value>>::new();
    let started = || {
        let components = launching.others.iter().copied();
        components.filter(|component| component.starts())
    };
    for component in started() {
        for scrape in component.scrape {
            jobs.entry(scrape.job).or_default().push(serde_json::json!({
                "targets": [launching.ports.address(component, scrape.port)],
                "labels": { "service": scrape.service },
            }));
        }
    }
    // A probe goes to the exporter, which stands beside it in a label that prometheus.yml turns into
    // the address.
    let blackbox = find_known("blackbox_exporter");
    if started().any(|component| component.name == blackbox.name) {
        for (component, probe) in started()
            .flat_map(|component| component.probes.iter().map(move |probe| (component, probe)))
        {
            let address = launching.ports.address(component, probe.port);
            jobs.entry(probe.job()).or_default().push(serde_json::json!({
                "targets": [probe.target(&address)],
                "labels": { "service": probe.service, "__blackbox_address": launching.ports.address(blackbox, "http") },
            }));
        }
    }
    for (job, targets) in jobs {
        let json = serde_json::to_vec_pretty(&targets).expect("targets of strings are always JSON");
        write_atomically(&dir.join(job).with_extension("json"), &json)?;
    }
    Ok(())
}

fn console(launching: &Launching<'_>) -> Result<Launch, Error> {
    let layout = launching.layout;
    let launch = Launch::default()
        .option("--listen", launching.address("http"))
        .option("--smtp-listen", launching.address("smtp"))
        .option("--docs", layout.config("docs"))
        .option("--store", launching.state_dir()?.join("messages.jsonl"))
        .option(
            "--secrets",
            notification::make_secrets(layout, &launching.address("http"))?,
        )
        .option("--project", layout.config(""))
        .option("--data-dir", layout.data())
        .option("--cache-dir", layout.cache())
        .option("--chaos-token-file", layout.chaos_token_file());
    let part_of = |name: &str| launching.others.iter().any(|other| other.name == name);
    let back_ends = ["prometheus", "alertmanager", "jaeger", "elasticsearch"];
    let launch = back_ends
        .into_iter()
        .filter(|name| part_of(name))
        .fold(launch, |launch, name| {
            launch.option(&format!("--{name}"), launching.url_of(name, "http"))
        });
    // Where faults are started.
    let services = ["flask-api-1", "flask-api-2", "payments"];
    Ok(services
        .into_iter()
        .filter(|name| part_of(name))
        .fold(launch, |launch, name| {
            let url = launching.url_of(name, "admin");
            launch.option("--admin", format!("{name}={url}"))
        }))
}

/// Where Alertmanager's messages go and lead to.
fn addresses(launching: &Launching<'_>) -> Addresses {
    let console = |port| launching.ports.address(find_known("console"), port);
    let mut others = launching.others.iter();
    let grafana = others.find(|other| other.name == "grafana" && other.starts());
    Addresses {
        console: console("http"),
        smtp: console("smtp"),
        // Where there is none, the console draws its dashboards. The name is that of the files.
        dashboards: grafana.map_or_else(
            || console("http"),
            |grafana| format!("localhost:{}", launching.ports.port(grafana, "http")),
        ),
    }
}

fn alertmanager(launching: &Launching<'_>) -> Result<Launch, Error> {
    let run = launching.run_dir()?;
    notification::configure(launching.layout, &run, &addresses(launching))?;
    Ok(Launch::default()
        .option("--config.file", run.join("alertmanager.yml"))
        .option("--storage.path", launching.state_dir()?)
        .option("--web.listen-address", launching.address("http"))
        // What links in messages begin with.
        .option(
            "--web.external-url",
            format!("http://{}", launching.address("http")),
        )
        // One instance gossips with nobody; an empty address opens no second port.
        .option("--cluster.listen-address", ""))
}

fn node_exporter(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch::default()
        .option("--web.listen-address", launching.address("http"))
        // Debian switches these two on; without systemd's socket and the package's directory they
        // only fill the log.
        .arg("--no-collector.systemd")
        .arg("--no-collector.textfile"))
}

fn cadvisor(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch::default().option("-listen", launching.address("http")))
}

fn blackbox_exporter(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch::default()
        .option(
            "--config.file",
            launching.layout.config("exporters/blackbox.yml"),
        )
        .option("--web.listen-address", launching.address("http")))
}

fn jaeger(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch::default()
        .option("--config", launching.layout.config("jaeger/config.yaml"))
        .env("JAEGER_OTLP_GRPC", launching.address("otlp-grpc"))
        .env("JAEGER_OTLP_HTTP", launching.address("otlp-http"))
        .env("JAEGER_QUERY_HTTP", launching.address("http"))
        .env("JAEGER_QUERY_GRPC", launching.address("query-grpc"))
        .env("JAEGER_SPAN_METRICS", launching.address("spanmetrics"))
        .env("JAEGER_METRICS_HOST", HOST)
        .env(
            "JAEGER_METRICS_PORT",
            launching
                .ports
                .port(launching.component, "metrics")
                .to_string(),
        )
        .env("JAEGER_HEALTH", launching.address("health"))
        .env("JAEGER_SAMPLING_HTTP", launching.address("sampling"))
        .env("JAEGER_SAMPLING_GRPC", launching.address("sampling-grpc"))
        .env(
            "JAEGER_SAMPLING_STRATEGIES",
            launching.layout.config("jaeger/sampling-strategies.json"),
        )
        .env(
            "JAEGER_PROMETHEUS_URL",
            launching.url_of("prometheus", "http"),
        ))
}

fn elasticsearch(launching: &Launching<'_>) -> Result<Launch, Error> {
    let run = launching.run_dir()?;
    let state = launching.state_dir()?;
    let (config, temporary) = (run.join("config"), run.join("tmp"));
    for dir in [&config, &temporary, &state.join("data")] {
        make_dir(dir)?;
    }
    // Copies, because Elasticsearch follows no link out of its configuration directory.
    copy(
        &launching.layout.config("elk/elasticsearch.yml"),
        &config.join("elasticsearch.yml"),
    )?;
    for file in ["jvm.options", "log4j2.properties"] {
        copy(
            &launching.installed.home.join("config").join(file),
            &config.join(file),
        )?;
    }
    let launch = Launch { refuses_root: true, ..Launch::default() }
        .arg("-E").option("http.port", launching.ports.port(launching.component, "http").to_string())
        .arg("-E").option("transport.port", launching.ports.port(launching.component, "transport").to_string())
        .arg("-E").option("path.data", state.join("data"))
        .arg("-E").option("path.logs", state.join("logs"))
        .env("ES_PATH_CONF", config)
        // Its own temporary directory, or every hard end would leave one behind under /tmp.
        .env("ES_TMPDIR", temporary)
        // A third of the memory of the defaults: a small heap, the collector for small heaps, the quick
        // compiler only. The distribution's jvm.options choose G1, and touch the whole heap at start.
        .env(
            "ES_JAVA_OPTS",
            "-Xms64m -Xmx256m -XX:-UseG1GC -XX:+UseSerialGC -XX:-AlwaysPreTouch -XX:TieredStopAtLevel=1 \
             -XX:ReservedCodeCacheSize=64m -XX:ActiveProcessorCount=2 -Xlog:disable",
        )
        .env("CLI_JAVA_OPTS", "-Xmx32m -XX:TieredStopAtLevel=1 -Xss256k")
        .env("MALLOC_ARENA_MAX", "2");
    Ok(match &launching.installed.java_home {
        Some(home) => launch.env("ES_JAVA_HOME", home.clone()),
        None => launch,
    })
}

fn otelcol(launching: &Launching<'_>) -> Result<Launch, Error> {
    Ok(Launch::default()
        .option(
            "--config",
            launching.layout.config("elk/otel-collector.yaml"),
        )
        .option("--feature-gates", "stanza.synchronousLogEmitter")
        .env("APP_LOG_GLOB", launching.layout.app_logs().join("*.log*"))
        .env("OTELCOL_STORAGE", launching.state_dir()?)
        .env(
            "ELASTICSEARCH_URL",
            launching.url_of("elasticsearch", "http"),
        )
        .env("OTELCOL_HEALTH", launching.address("health"))
        .env("OTELCOL_HOP", launching.address("hop"))
        .env(
            "OTELCOL_ELASTICSEARCH_METRICS",
            launching.address("elasticsearch"),
        )
        .env("OTELCOL_METRICS_HOST", HOST)
        .env(
            "OTELCOL_METRICS_PORT",
            launching
                .ports
                .port(launching.component, "metrics")
                .to_string(),
        ))
}

/// Grafana on the files of `grafana/`, for whoever is at this machine: nobody has to log in, nobody can change
/// anything. Written by Grafana's documentation; not executed where this was written.
fn grafana(launching: &Launching<'_>) -> Result<Launch, Error> {
    let run = launching.run_dir()?;
    let provisioning = run.join("provisioning");
    // Grafana looks into each of these, and complains of those that are not there.
    for dir in ["datasources", "dashboards", "plugins", "alerting"] {
        make_dir(&provisioning.join(dir))?;
    }
    for file in files_in(&launching.layout.config("grafana/datasources"), "yaml")? {
        let name = file.file_name().unwrap_or_default();
        link(&file, &provisioning.join("datasources").join(name))?;
    }
    let dashboards = launching.layout.config("grafana/dashboards");
    link(
        &launching
            .layout
            .config("grafana/provisioning/dashboards.yaml"),
        &provisioning.join("dashboards/dashboards.yaml"),
    )?;
    let state = launching.state_dir()?;
    let port = launching.ports.port(launching.component, "http");
    Ok(Launch::default()
        .arg("server")
        .option("--homepath", grafana_home(&launching.installed.program))
        .env("PROMETHEUS_URL", launching.url_of("prometheus", "http"))
        .env(
            "ELASTICSEARCH_URL",
            launching.url_of("elasticsearch", "http"),
        )
        .env("JAEGER_URL", launching.url_of("jaeger", "http"))
        .env("GRAFANA_DASHBOARDS", dashboards.clone())
        .env("GF_PATHS_PROVISIONING", provisioning)
        .env("GF_PATHS_DATA", state.clone())
        .env("GF_PATHS_LOGS", state.join("log"))
        .env("GF_PATHS_PLUGINS", state.join("plugins"))
        .env("GF_SERVER_HTTP_ADDR", HOST)
        .env("GF_SERVER_HTTP_PORT", port.to_string())
        .env("GF_AUTH_ANONYMOUS_ENABLED", "true")
        .env("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer")
        // Explore, where the ways from metric to trace to log line lead.
        .env("GF_USERS_VIEWERS_CAN_EDIT", "true")
        // No account with a password that everybody knows.
        .env("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "true")
        .env("GF_AUTH_DISABLE_LOGIN_FORM", "true")
        .env("GF_USERS_ALLOW_SIGN_UP", "false")
        .env(
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH",
            dashboards.join("overview.json"),
        )
        // Nothing goes out, nothing is fetched.
        .env("GF_ANALYTICS_REPORTING_ENABLED", "false")
        .env("GF_ANALYTICS_CHECK_FOR_UPDATES", "false")
        .env("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false")
        .env("GF_NEWS_NEWS_FEED_ENABLED", "false")
        .env("GF_SECURITY_DISABLE_GRAVATAR", "true")
        .env("GF_PLUGINS_PREINSTALL_DISABLED", "true"))
}

/// Where Grafana's defaults and pages are: around the program when it comes from an archive, in a fixed place
/// when it comes from a package.
fn grafana_home(program: &Path) -> std::path::PathBuf {
    let around = program
        .canonicalize()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.to_owned()));
    around
        .filter(|home| home.join("conf/defaults.ini").is_file())
        .unwrap_or_else(|| "/usr/share/grafana".into())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|source| Error::Io {
            doing: "copy",
            path: from.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{Installed, Layout, Ports};

    #[test]
    fn names_and_ports_are_unique() {
        let mut names = HashSet::new();
        let mut ports = HashSet::new();
        for component in COMPONENTS.iter().chain(FOR_TESTS) {
            assert!(names.insert(component.name), "{} twice", component.name);
            for port in component.ports {
                assert!(
                    ports.insert(port.default),
                    "{}'s port {} twice",
                    component.name,
                    port.default
                );
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for component in COMPONENTS {
            for other in component.after {
                find(other).unwrap();
            }
            assert!(
                component
                    .probes
                    .iter()
                    .all(|probe| component.ports.iter().any(|port| port.name == probe.port))
            );
            let named = |name: &str| component.ports.iter().any(|port| port.name == name);
            assert!(
                component.health.iter().all(|health| named(health.port)),
                "{}",
                component.name
            );
            assert!(
                component.setup.iter().all(|setup| named(setup.port)),
                "{}",
                component.name
            );
            assert!(
                component.scrape.iter().all(|scrape| named(scrape.port)),
                "{}",
                component.name
            );
            assert!(
                component.launch.is_some() || matches!(component.source, Source::External { .. })
            );
        }
    }

    #[test]
    fn nobody_waits_in_a_circle_or_ends_before_those_who_need_it() {
        for component in COMPONENTS {
            for other in component.after {
                assert!(
                    find(other).unwrap().tier < component.tier,
                    "{} and {other}",
                    component.name
                );
            }
        }
    }

    /// What a launch function gives for these ports, below a directory of the test's own.
    fn launched(name: &str, program: &Path, dir: &Path) -> Launch {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap();
        let layout = Layout::new(project, &dir.join("data"), &dir.join("cache")).unwrap();
        layout.prepare().unwrap();
        let component = find(name).unwrap();
        let installed = Installed {
            program: program.to_owned(),
            version: "unknown".into(),
            home: dir.to_owned(),
            java_home: None,
        };
        let others: Vec<_> = COMPONENTS.iter().collect();
        let launching = Launching {
            layout: &layout,
            ports: Ports::new(1000, &others).unwrap(),
            installed: &installed,
            component,
            others: &others,
            slo_rules: None,
        };
        component.launch.unwrap()(&launching).unwrap()
    }

    #[test]
    fn grafana_gets_these_very_files_and_this_labs_addresses() {
        let dir = tempfile::tempdir().unwrap();
        // As an archive has it.
        let home = dir.path().join("grafana-13");
        for sub in ["bin", "conf"] {
            make_dir(&home.join(sub)).unwrap();
        }
        let program = home.join("bin/grafana");
        std::fs::write(&program, "").unwrap();
        std::fs::write(home.join("conf/defaults.ini"), "").unwrap();
        let launch = launched("grafana", &program, dir.path());
        let env = |name: &str| {
            let (_, value) = launch
                .env
                .iter()
                .find(|(key, _)| *key == name)
                .unwrap_or_else(|| panic!("no {name}"));
            value.to_str().unwrap().to_owned()
        };
        let home = home.canonicalize().unwrap();
        assert_eq!(
            launch.args,
            [
                std::ffi::OsString::from("server"),
                format!("--homepath={}", home.display()).into()
            ]
        );
        assert_eq!(env("PROMETHEUS_URL"), "http://127.0.0.1:10090");
        assert_eq!(env("ELASTICSEARCH_URL"), "http://127.0.0.1:10200");
        assert_eq!(env("JAEGER_URL"), "http://127.0.0.1:17686");
        assert_eq!(env("GF_SERVER_HTTP_ADDR"), "127.0.0.1");
        assert_eq!(env("GF_SERVER_HTTP_PORT"), "4000");
        assert_eq!(env("GF_AUTH_ANONYMOUS_ORG_ROLE"), "Viewer");
        let provisioning = std::path::PathBuf::from(env("GF_PATHS_PROVISIONING"));
        for (file, source) in [
            (
                "datasources/prometheus.yaml",
                "grafana/datasources/prometheus.yaml",
            ),
            (
                "datasources/elasticsearch.yaml",
                "grafana/datasources/elasticsearch.yaml",
            ),
            ("datasources/jaeger.yaml", "grafana/datasources/jaeger.yaml"),
            (
                "dashboards/dashboards.yaml",
                "grafana/provisioning/dashboards.yaml",
            ),
        ] {
            let seen = provisioning.join(file).canonicalize().unwrap();
            assert!(seen.ends_with(source), "{}", seen.display());
        }
        // Every variable that those files name is given.
        for file in [
            "datasources/prometheus.yaml",
            "datasources/elasticsearch.yaml",
            "datasources/jaeger.yaml",
            "dashboards/dashboards.yaml",
        ] {
            let text = std::fs::read_to_string(provisioning.join(file)).unwrap();
            let text = text.replace("$$", "");
            for name in text
                .split("${")
                .skip(1)
                .map(|rest| rest.split('}').next().unwrap())
            {
                assert!(!env(name).is_empty(), "{file} names {name}");
            }
        }
        let dashboards = std::path::PathBuf::from(env("GRAFANA_DASHBOARDS"));
        assert!(dashboards.join("overview.json").is_file());
        // As a package has it.
        let packaged = launched("grafana", Path::new("/usr/sbin/grafana"), dir.path());
        assert_eq!(packaged.args[1], "--homepath=/usr/share/grafana");
    }

    #[test]
    fn what_the_user_has_to_bring_starts_only_where_it_is() {
        let grafana = find("grafana").unwrap();
        assert_eq!(
            grafana.starts(),
            crate::install::on_path("grafana").is_some()
        );
        assert!(find("prometheus").unwrap().starts());
        assert!(!find("kibana").unwrap().starts());
    }
}
