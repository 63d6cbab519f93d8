//! Service discovery by Kubernetes: a real API server knows pods whose ports are those of a running
//! lab, and a Prometheus of the kind that clusters run finds them there and evaluates the same rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};
use stack::table::COMPONENTS;
use tempfile::TempDir;

use crate::running::{
    TestLab, eventually, everything_is_installed, free_port, lab, program, project, promtool, skip,
    text,
};

pub const TOKEN: &str = "a-token-of-this-test";
const NODE: &str = "node-1";

/// What needs the kubelet or the cluster's name service, of which there is none here: found, but not
/// up.
const UNREACHABLE: [&str; 5] = [
    "cadvisor",
    "kubelet",
    "blackbox-http",
    "blackbox-tcp",
    "blackbox-tls",
];

#[test]
fn the_committed_configuration_is_what_its_sources_say() {
    let output = lab(&["k8s", "render", "--check", "--project"])
        .arg(project())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_job_that_a_cluster_would_not_find_is_refused() {
    let copy = tempfile::tempdir().unwrap();
    for file in [
        "prometheus/prometheus.yml",
        "k8s/service-discovery.yml",
        "k8s/prometheus.yml",
        "alertmanager/alertmanager.yml",
        "k8s/alerting/alertmanager.yml",
        "jaeger/config.yaml",
        "jaeger/sampling-strategies.json",
        "jaeger/jaeger-all-in-one.yaml",
    ] {
        let to = copy.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(project().join(file), to).unwrap();
    }
    let render = |args: &[&str]| -> Output {
        lab(&["k8s", "render", "--project"])
            .arg(copy.path())
            .args(args)
            .output()
            .unwrap()
    };
    let change = |file: &str, from: &str, to: &str| {
        let path = copy.path().join(file);
        let old = std::fs::read_to_string(&path).unwrap();
        assert!(old.contains(from), "{from}");
        std::fs::write(path, old.replace(from, to)).unwrap();
    };
    change(
        "k8s/service-discovery.yml",
        "regex: loadgen;metrics",
        "regex: loadgen;http",
    );
    let differs = render(&["--check"]);
    assert_eq!(differs.status.code(), Some(1));
    assert!(
        text(&differs).contains("+    regex: loadgen;http"),
        "{}",
        text(&differs)
    );
    assert_eq!(render(&[]).status.code(), Some(0));
    assert_eq!(render(&["--check"]).status.code(), Some(0));

    change(
        "prometheus/prometheus.yml",
        "job_name: loadgen",
        "job_name: loadgen-2",
    );
    let refused = render(&[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused).contains("how job loadgen-2"),
        "{}",
        text(&refused)
    );
}

/// Jaeger's manifest works alone: one `kubectl apply -f`, and what it mounts is what a laptop runs.
#[test]
fn jaegers_manifest_is_taken_by_a_strict_cluster() {
    let Some(cluster) = Cluster::start() else {
        skip("not installed; get them with `lab install etcd kube-apiserver kubectl`");
        return;
    };
    let manifest = project().join("jaeger/jaeger-all-in-one.yaml");
    let applied = cluster.kubectl(
        &[
            "apply",
            "--validate=strict",
            "-f",
            manifest.to_str().unwrap(),
        ],
        None,
    );
    assert!(
        applied.status.success() && applied.stderr.is_empty(),
        "{}",
        text(&applied)
    );
    let get = |what: &str| -> Value {
        let output = cluster.kubectl(&["-n", "tracing", "get", what, "-o", "json"], None);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let data = get("configmap/jaeger")["data"].clone();
    for file in ["config.yaml", "sampling-strategies.json"] {
        let ours = std::fs::read_to_string(project().join("jaeger").join(file)).unwrap();
        assert_eq!(data[file], ours, "{file}");
    }
    // Every address that config.yaml takes from the environment is one that other pods reach.
    let container = get("deployment/jaeger")["spec"]["template"]["spec"]["containers"][0].clone();
    let environment: BTreeSet<&str> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    let config = data["config.yaml"].as_str().unwrap();
    let variables = config
        .split("${env:")
        .skip(1)
        .map(|rest| &rest[..rest.find('}').unwrap()]);
    for (variable, _) in variables
        .filter_map(|it| it.split_once(":-"))
        .filter(|(_, default)| default.contains("127.0.0.1"))
    {
        assert!(
            environment.contains(variable),
            "{variable} keeps its loopback address in a cluster"
        );
    }
}

/// What `kubectl apply -k k8s/alerting` sends is what a real API server takes, in a namespace that admits restricted pods only.
#[test]
fn two_alertmanagers_are_taken_by_a_strict_cluster() {
    let Some(cluster) = Cluster::start() else {
        skip("not installed; get them with `lab install etcd kube-apiserver kubectl`");
        return;
    };
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "monitoring", "labels": { "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" } },
    });
    cluster.apply(&[namespace]);
    let directory = project().join("k8s/alerting");
    let applied = cluster.kubectl(
        &[
            "apply",
            "--validate=strict",
            "-k",
            directory.to_str().unwrap(),
        ],
        None,
    );
    assert!(applied.status.success(), "{}", text(&applied));
    // A pod that the namespace would not admit is a warning at the StatefulSet.
    assert!(applied.stderr.is_empty(), "{}", text(&applied));
    let get = |what: &str| -> Value {
        let output = cluster.kubectl(&["-n", "monitoring", "get", what, "-o", "json"], None);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let set = get("statefulset/alertmanager");
    assert_eq!(set["spec"]["replicas"], 2);
    // Its files are those of this tree: the templates themselves, and the configuration with a cluster's addresses.
    let volumes = set["spec"]["template"]["spec"]["volumes"]
        .as_array()
        .unwrap();
    let map = |volume: &str| {
        let volume = volumes.iter().find(|it| it["name"] == volume).unwrap();
        get(&format!(
            "configmap/{}",
            volume["configMap"]["name"].as_str().unwrap()
        ))["data"]
            .clone()
    };
    let templates = map("templates");
    let files = std::fs::read_dir(project().join("alertmanager/templates")).unwrap();
    let files: BTreeSet<String> = files
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    let mounted: BTreeSet<String> = templates.as_object().unwrap().keys().cloned().collect();
    assert_eq!(mounted, files);
    let config = map("config")["alertmanager.yml"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        config.contains("pagerduty_url: http://console.monitoring:8000/")
            && !config.contains("127.0.0.1")
    );
}

/// What `kubectl apply -k k8s` sends: taken without a warning, with the files of this tree in what the pods mount, and nothing to do the second time.
#[test]
fn logs_are_taken_by_a_strict_cluster() {
    let Some(cluster) = Cluster::start() else {
        skip("not installed; get them with `lab install etcd kube-apiserver kubectl`");
        return;
    };
    let directory = project().join("k8s");
    let apply = || {
        let directory = directory.to_str().unwrap();
        let applied = cluster.kubectl(&["apply", "--validate=strict", "-k", directory], None);
        // A pod that its namespace would not admit is a warning.
        assert!(
            applied.status.success() && applied.stderr.is_empty(),
            "{}",
            text(&applied)
        );
        String::from_utf8(applied.stdout).unwrap()
    };
    apply();
    let get = |what: &str, namespace: &str| -> Value {
        let output = cluster.kubectl(&["-n", namespace, "get", what, "-o", "json"], None);
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let file = |name: &str| {
        let places = ["elk", "elk/kibana"].map(|it| project().join(it).join(name));
        let place = places.iter().find(|it| it.exists());
        std::fs::read_to_string(place.unwrap_or_else(|| panic!("no file {name}"))).unwrap()
    };
    let ours: Vec<String> = std::fs::read_dir(project().join("elk"))
        .unwrap()
        .map(|it| it.unwrap())
        .filter(|it| it.path().is_file())
        .map(|it| it.file_name().into_string().unwrap())
        .collect();
    let mut mounted = BTreeSet::new();
    for namespace in ["logging", "logging-agents"] {
        let workloads = get("statefulsets,deployments,daemonsets,jobs", namespace);
        for workload in workloads["items"].as_array().unwrap() {
            let pod = &workload["spec"]["template"]["spec"];
            let volumes = pod["volumes"].as_array().unwrap();
            let all = |kind: &str| pod[kind].as_array().cloned().unwrap_or_default();
            for container in [all("initContainers"), all("containers")].concat() {
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    let volume = volumes.iter().find(|it| it["name"] == mount["name"]);
                    let Some(map) = volume.and_then(|it| it["configMap"]["name"].as_str()) else {
                        continue;
                    };
                    let data = get(&format!("configmap/{map}"), namespace)["data"].clone();
                    let data = data.as_object().unwrap();
                    for (name, content) in data {
                        assert_eq!(content, &file(name), "{map}: {name}");
                        // What a file names lies beside it.
                        let lines = content.as_str().unwrap().lines();
                        let comment = |it: &&str| {
                            ["#", "--"]
                                .iter()
                                .any(|mark| it.trim_start().starts_with(mark))
                        };
                        for line in lines.filter(|it| !comment(it)) {
                            for other in ours.iter().filter(|it| line.contains(it.as_str())) {
                                assert!(data.contains_key(other), "{map} lacks {other}: {line}");
                            }
                        }
                    }
                    // So does what the command names.
                    let from = format!("{}/", mount["mountPath"].as_str().unwrap());
                    let command = container["command"].to_string();
                    for rest in command.split(&from).skip(1) {
                        let end = rest.find([' ', '"']).unwrap();
                        assert!(data.contains_key(&rest[..end]), "{map}: {}", &rest[..end]);
                    }
                    mounted.extend(data.keys().cloned());
                }
            }
        }
    }
    for name in [
        "elasticsearch.yml",
        "setup.sh",
        "lifecycle-policy.json",
        "import.sh",
        "flask-logs.ndjson",
        "fluent-bit-kubernetes.yaml",
        "fluent-bit-elasticsearch.yaml",
        "fluent-bit.lua",
    ] {
        assert!(mounted.contains(name), "no pod has {name}: {mounted:?}");
    }

    // Fluent Bit may look up the pods whose lines it reads, and nothing else.
    let may = |verb: &str, what: &str, namespace: &str| {
        let who = "--as=system:serviceaccount:logging-agents:fluent-bit";
        let answer = cluster.kubectl(&["auth", "can-i", verb, what, "-n", namespace, who], None);
        String::from_utf8(answer.stdout).unwrap().trim() == "yes"
    };
    assert!(may("get", "pods", "application"));
    assert!(!may("get", "pods", "logging") && !may("get", "secrets", "application"));
    assert!(!may("list", "pods", "application"));

    // Its environment has all that its configuration asks for.
    let agent = get("daemonset/fluent-bit", "logging-agents");
    let environment = agent["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
    for name in [
        "fluent-bit-kubernetes.yaml",
        "fluent-bit-elasticsearch.yaml",
    ] {
        for rest in file(name).split("${").skip(1) {
            let variable = format!("\"{}\"", &rest[..rest.find('}').unwrap()]);
            assert!(environment.contains(&variable), "{variable} is not set");
        }
    }

    // kubectl says `configured` of a StatefulSet with volume claims, to which the server adds defaults; what counts is what the server has.
    let versions = || -> BTreeMap<String, String> {
        let kinds = "configmaps,services,statefulsets,deployments,daemonsets,jobs,networkpolicies,roles,rolebindings,serviceaccounts,poddisruptionbudgets,namespaces";
        let output = cluster.kubectl(&["get", kinds, "--all-namespaces", "-o", "json"], None);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let version = |it: &Value| {
            let meta = &it["metadata"];
            let name = format!("{} {} {}", it["kind"], meta["namespace"], meta["name"]);
            (name, meta["resourceVersion"].to_string())
        };
        all["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(version)
            .collect()
    };
    let before = versions();
    apply();
    assert_eq!(versions(), before);
}

/// A process of a test, ended with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An API server of its own, empty at first.
pub struct Cluster {
    pub dir: TempDir,
    /// Base URL of the API server.
    pub url: String,
    kubectl: PathBuf,
    // In the order in which they end.
    _api: Process,
    _etcd: Process,
}

impl Cluster {
    /// `None` where the programs are not installed.
    pub fn start() -> Option<Self> {
        let programs = ["etcd", "kube-apiserver", "kubectl"].map(program);
        let [Some(etcd), Some(api), Some(kubectl)] = programs else {
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let [client, peer, https] = [(); 3].map(|()| free_port());
        let log = |name: &str| Stdio::from(File::create(dir.path().join(name)).unwrap());
        let (client, peer) = (
            format!("http://127.0.0.1:{client}"),
            format!("http://127.0.0.1:{peer}"),
        );
        let etcd = Command::new(etcd)
            .arg("--data-dir")
            .arg(dir.path().join("etcd"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .arg("--unsafe-no-fsync")
            .stdout(log("etcd.out"))
            .stderr(log("etcd.err"))
            .spawn()
            .map(Process)
            .unwrap();
        let tokens = dir.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},test,test,system:masters\n")).unwrap();
        let [key, public] = ["accounts.key", "accounts.pub"].map(|name| dir.path().join(name));
        let pair = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::write(&public, pair.public_key_pem()).unwrap();
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let api = Command::new(api)
            .arg(format!("--etcd-servers={client}"))
            .args(["--bind-address=127.0.0.1", "--authorization-mode=RBAC"])
            .arg(format!("--secure-port={https}"))
            .arg(option("cert-dir", &dir.path().join("certificates")))
            .arg(option("token-auth-file", &tokens))
            .arg(option("service-account-key-file", &public))
            .arg(option("service-account-signing-key-file", &key))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            // Nobody makes the accounts that it would ask of every pod.
            .arg("--disable-admission-plugins=ServiceAccount")
            .stdout(log("api.out"))
            .stderr(log("api.err"))
            .spawn()
            .map(Process)
            .unwrap();
        let cluster = Self {
            kubectl,
            _api: api,
            _etcd: etcd,
            dir,
            url: format!("https://127.0.0.1:{https}"),
        };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": cluster.url, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "test", "user": { "token": TOKEN } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        std::fs::write(cluster.config(), config.to_string()).unwrap();
        eventually("the API server is ready", || {
            cluster
                .kubectl(&["get", "--raw", "/readyz"], None)
                .status
                .success()
        });
        Some(cluster)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("kubeconfig.json")
    }

    fn kubectl(&self, args: &[&str], input: Option<&str>) -> Output {
        let mut child = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(self.config())
            .arg("--cache-dir")
            .arg(self.dir.path().join("kubectl"))
            .args(args)
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(input.unwrap_or_default().as_bytes())
            .unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    pub fn apply(&self, objects: &[Value]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let output = self.kubectl(&["apply", "-f", "-"], Some(&list.to_string()));
        assert!(output.status.success(), "{}", text(&output));
    }

    /// What the kubelet would say of an object.
    fn status(&self, namespace: &str, kind: &str, name: &str, status: &Value) {
        let patch = json!({ "status": status }).to_string();
        let output = self.kubectl(
            &[
                "patch",
                kind,
                name,
                "--namespace",
                namespace,
                "--subresource=status",
                "--type=merge",
                "--patch",
                &patch,
            ],
            None,
        );
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// A pod that stands for a process of a lab.
struct Pod {
    namespace: &'static str,
    name: &'static str,
    /// Its `app.kubernetes.io/name`.
    label: &'static str,
    component: &'static str,
    /// Those of the component that it names.
    ports: &'static [&'static str],
}

const fn pod(
    namespace: &'static str,
    name: &'static str,
    label: &'static str,
    component: &'static str,
    ports: &'static [&'static str],
) -> Pod {
    Pod {
        namespace,
        name,
        label,
        component,
        ports,
    }
}

const PODS: &[Pod] = &[
    pod(
        "application",
        "flask-api-1",
        "flask-api",
        "flask-api-1",
        &["http", "admin"],
    ),
    pod(
        "application",
        "flask-api-2",
        "flask-api",
        "flask-api-2",
        &["http", "admin"],
    ),
    pod(
        "application",
        "payments",
        "payments",
        "payments",
        &["http", "admin"],
    ),
    pod(
        "application",
        "exporter",
        "custom-flask-exporter",
        "custom-flask-exporter",
        &["http"],
    ),
    pod("application", "loadgen", "loadgen", "loadgen", &["metrics"]),
    pod(
        "monitoring",
        "prometheus-0",
        "prometheus",
        "prometheus",
        &["http"],
    ),
    pod(
        "monitoring",
        "alertmanager-0",
        "alertmanager",
        "alertmanager",
        &["http"],
    ),
    pod(
        "monitoring",
        "node-exporter-x1",
        "node-exporter",
        "node_exporter",
        &["http"],
    ),
    pod(
        "monitoring",
        "blackbox-exporter",
        "blackbox-exporter",
        "blackbox_exporter",
        &["http"],
    ),
    pod(
        "tracing",
        "jaeger",
        "jaeger",
        "jaeger",
        &["otlp-http", "metrics", "spanmetrics"],
    ),
    pod(
        "logging",
        "otel-collector-x1",
        "otel-collector",
        "otelcol",
        &["metrics", "elasticsearch"],
    ),
    // Nobody asked for it to be scraped.
    pod("application", "other", "other", "payments", &["admin"]),
    // Nor is this one ours.
    pod(
        "default",
        "flask-api-x",
        "flask-api",
        "flask-api-1",
        &["admin"],
    ),
];

fn populate(cluster: &Cluster, lab: &TestLab) {
    let mut objects: Vec<Value> = ["application", "monitoring", "logging", "tracing"]
        .map(
            |name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        )
        .into();
    objects.push(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } }));
    for Pod {
        namespace,
        name,
        label,
        component,
        ports,
    } in PODS
    {
        let ports: Vec<Value> = ports
            .iter()
            .map(|port| json!({ "name": port, "containerPort": lab.port(component, port) }))
            .collect();
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace, "labels": { "app.kubernetes.io/name": label } },
            "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "none", "ports": ports }] },
        }));
    }
    let service = |namespace: &str, name: &str, ports: &[(&str, u16)], annotations: Value| {
        let ports: Vec<Value> = ports
            .iter()
            .map(|(name, port)| json!({ "name": name, "port": port }))
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": name, "namespace": namespace, "annotations": annotations },
            "spec": { "ports": ports },
        })
    };
    objects.push(service(
        "application",
        "flask-api",
        &[("http", 5000), ("https", 5443)],
        json!({ "three-pillars.example/probe-http": "/healthz", "three-pillars.example/probe-tls": "https" }),
    ));
    objects.push(service(
        "tracing",
        "jaeger",
        &[("http", 16686), ("otlp-http", 4318)],
        json!({ "three-pillars.example/probe-tcp": "otlp-http" }),
    ));
    objects.push(service(
        "application",
        "payments",
        &[("http", 5010)],
        json!({}),
    ));
    cluster.apply(&objects);
    for Pod {
        namespace, name, ..
    } in PODS
    {
        let status = json!({
            "phase": "Running", "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
        cluster.status(namespace, "pod", name, &status);
    }
    let status = json!({
        "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
    });
    cluster.status("default", "node", NODE, &status);
}

/// The configuration of a cluster, told how to reach this one from outside.
fn write_configuration(cluster: &Cluster, dir: &Path) {
    for file in ["recording-rules.yml", "alerts.yml", "slo-rules.yml"] {
        std::fs::copy(project().join("prometheus").join(file), dir.join(file)).unwrap();
    }
    let rendered = std::fs::read_to_string(project().join("k8s/prometheus.yml")).unwrap();
    let mut config: Value = serde_saphyr::from_str(&rendered).unwrap();
    let discoveries = |holders: &mut Value| {
        for holder in holders.as_array_mut().unwrap() {
            for discovery in holder["kubernetes_sd_configs"].as_array_mut().unwrap() {
                discovery["kubeconfig_file"] = cluster.config().to_str().unwrap().into();
            }
        }
    };
    discoveries(&mut config["scrape_configs"]);
    discoveries(&mut config["alerting"]["alertmanagers"]);
    // JSON is YAML.
    std::fs::write(dir.join("prometheus.yml"), config.to_string()).unwrap();
}

/// Asks a Prometheus.
fn ask(port: u16, path: &str, query: &[(&str, &str)]) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://127.0.0.1:{port}/api/v1/{path}");
        match client.get(url).query(query).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    })
}

fn targets(port: u16) -> Vec<Value> {
    let answer = ask(port, "targets", &[("state", "active")]);
    answer["data"]["activeTargets"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn label<'a>(target: &'a Value, name: &str) -> &'a str {
    target["labels"][name].as_str().unwrap_or_default()
}

#[test]
fn discovery_finds_in_a_cluster_what_files_name_on_a_laptop() {
    if !everything_is_installed() {
        return;
    }
    let (Some(prometheus), Some(cluster)) = (program("prometheus-3"), Cluster::start()) else {
        skip(
            "etcd, kube-apiserver, kubectl and prometheus-3 are not installed; get them with `lab install etcd kube-apiserver kubectl prometheus-3`",
        );
        return;
    };
    let mut lab = TestLab::new();
    let up = lab.up(&["--profile", "real-time"]);
    assert_eq!(up.status.code(), Some(0), "{}", text(&up));
    populate(&cluster, &lab);

    let dir = tempfile::tempdir().unwrap();
    write_configuration(&cluster, dir.path());
    let checked = Command::new(promtool())
        .args([
            "check",
            "rules",
            "recording-rules.yml",
            "alerts.yml",
            "slo-rules.yml",
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    let port = free_port();
    let log = File::create(dir.path().join("prometheus.log")).unwrap();
    let _prometheus = Command::new(prometheus)
        .arg(format!(
            "--config.file={}",
            dir.path().join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.path().join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .map(Process)
        .unwrap();

    // Every scrape of the table, by job and service, with as many instances.
    let mut expected: Vec<(String, String)> = COMPONENTS
        .iter()
        .flat_map(|component| component.scrape)
        .map(|scrape| (scrape.job.to_owned(), scrape.service.to_owned()))
        .filter(|(job, _)| !UNREACHABLE.contains(&job.as_str()))
        .collect();
    expected.sort();
    let found = |health: &str| {
        let mut found: Vec<(String, String)> = targets(port)
            .iter()
            .filter(|target| target["health"] == health)
            .map(|target| {
                (
                    label(target, "job").to_owned(),
                    label(target, "service").to_owned(),
                )
            })
            .filter(|(job, _)| !UNREACHABLE.contains(&job.as_str()))
            .collect();
        found.sort();
        found
    };
    let started = std::time::Instant::now();
    eventually("every pod's target is up", || {
        if started.elapsed().as_secs() > 120 {
            let log = std::fs::read_to_string(dir.path().join("prometheus.log")).unwrap();
            panic!("{:#?}\n{expected:#?}\n{log}", targets(port));
        }
        found("up") == expected
    });
    for target in targets(port) {
        let labels: BTreeSet<&str> = target["labels"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            labels,
            BTreeSet::from(["instance", "job", "service"]),
            "{target:#}"
        );
    }
    let instances = |job: &str| -> BTreeSet<String> {
        targets(port)
            .iter()
            .filter(|target| label(target, "job") == job)
            .map(|target| label(target, "instance").to_owned())
            .collect()
    };
    assert_eq!(
        instances("flask-api"),
        ["flask-api-1", "flask-api-2"].map(str::to_owned).into(),
        "one of namespace default is none of ours"
    );
    assert_eq!(instances("node"), [NODE.to_owned()].into());

    // Who cannot be reached here is looked for in the right place.
    let urls: BTreeSet<(String, String, String)> = targets(port)
        .iter()
        .filter(|target| UNREACHABLE.contains(&label(target, "job")))
        .map(|target| {
            let url = target["scrapeUrl"].as_str().unwrap().to_owned();
            (
                label(target, "instance").to_owned(),
                label(target, "service").to_owned(),
                url,
            )
        })
        .collect();
    let blackbox = "http://blackbox-exporter.monitoring.svc:9115/probe?module=";
    let expected = [
        (
            NODE,
            "cadvisor",
            "https://127.0.0.1:10250/metrics/cadvisor".to_owned(),
        ),
        (
            NODE,
            "kubelet",
            "https://127.0.0.1:10250/metrics".to_owned(),
        ),
        (
            "http://flask-api.application.svc:5000/healthz",
            "flask-api",
            format!(
                "{blackbox}http_2xx&target=http%3A%2F%2Fflask-api.application.svc%3A5000%2Fhealthz"
            ),
        ),
        (
            "flask-api.application.svc:5443",
            "flask-api",
            format!("{blackbox}tls_connect&target=flask-api.application.svc%3A5443"),
        ),
        (
            "jaeger.tracing.svc:4318",
            "jaeger",
            format!("{blackbox}tcp_connect&target=jaeger.tracing.svc%3A4318"),
        ),
    ];
    let expected =
        expected.map(|(instance, service, url)| (instance.to_owned(), service.to_owned(), url));
    assert_eq!(urls, expected.into());

    // The same rules say the same: whatever they record on the laptop they record here.
    let recorded = |port: u16| -> BTreeSet<String> {
        let answer = ask(
            port,
            "query",
            &[("query", r#"count by (__name__) ({__name__=~".+:.+"})"#)],
        );
        let series = answer["data"]["result"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        series
            .iter()
            .map(|series| series["metric"]["__name__"].as_str().unwrap().to_owned())
            .filter(|name| !name.starts_with("container:"))
            .collect()
    };
    let on_the_laptop = recorded(lab.port("prometheus", "http"));
    assert!(on_the_laptop.len() > 40, "{on_the_laptop:?}");
    eventually("everything is recorded in the cluster too", || {
        recorded(port).is_superset(&on_the_laptop)
    });
    for group in ask(port, "rules", &[])["data"]["groups"]
        .as_array()
        .unwrap()
    {
        for rule in group["rules"].as_array().unwrap() {
            assert_eq!(rule["health"], "ok", "{rule:#}");
        }
    }
    let managers = ask(port, "alertmanagers", &[]);
    let manager = managers["data"]["activeAlertmanagers"][0]["url"]
        .as_str()
        .unwrap();
    assert!(
        manager.contains(&format!("127.0.0.1:{}", lab.port("alertmanager", "http"))),
        "{manager}"
    );
}
