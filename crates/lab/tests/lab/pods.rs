//! The lines of pods, as a container runtime writes them, by Fluent Bit's configuration for a cluster: with a real API server that knows
//! the pods. Where `fluent-bit` is on PATH.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, TOKEN},
    running::{TestLab, eventually, everything_is_installed, skip},
    shippers::{Place, Shipper, elasticsearch, fluent_bit, on_path, search},
};

const POD: &str = "flask-api-6d5f9c7b8-x2x7p";

#[test]
fn lines_of_pods_say_which_pod_wrote_them() {
    let Some(program) = on_path("fluent-bit") else {
        return;
    };
    if !everything_is_installed() {
        return;
    }
    let Some(cluster) = Cluster::start() else {
        skip("not installed; get them with `lab install etcd kube-apiserver kubectl`");
        return;
    };
    cluster.apply(&[
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "application" } }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": POD, "namespace": "application" },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "flask-api", "image": "flask-api" }] },
        }),
    ]);
    let mut lab = TestLab::new();
    let url = elasticsearch(&mut lab);
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("containers");
    let account = dir.path().join("account");
    for dir in [&logs, &account] {
        std::fs::create_dir(dir).unwrap();
    }
    std::fs::write(account.join("token"), TOKEN).unwrap();
    std::fs::copy(
        cluster.dir.path().join("certificates/apiserver.crt"),
        account.join("ca.crt"),
    )
    .unwrap();

    // Whole, in parts, and no line of ours.
    let line = json!({ "@timestamp": "2026-11-28T09:15:04.123456Z", "message": "whole" });
    let long = json!({ "@timestamp": "2026-11-28T09:15:05Z", "message": "x".repeat(40_000) });
    let long = long.to_string();
    let (first, last) = long.split_at(16_384);
    let at = "2026-11-28T09:15:06.123456789Z";
    let written = format!(
        "{at} stdout F {line}\n{at} stdout P {first}\n{at} stdout F {last}\n{at} stderr F thread 'main' panicked\n"
    );
    let file = format!(
        "{POD}_application_flask-api-{}.log",
        "0123456789abcdef".repeat(4)
    );
    std::fs::write(logs.join(file), written).unwrap();

    let place = Place {
        files: logs.join("*_application_*.log").display().to_string(),
        elasticsearch: url.clone(),
        state: dir.path().join("state"),
    };
    let mut command = fluent_bit(&program, &place, "fluent-bit-kubernetes.yaml");
    command
        .env("KUBERNETES_URL", &cluster.url)
        .env("SERVICE_ACCOUNT", &account);
    let mut shipper = Shipper::run(command, &place);
    let search = || -> Vec<Value> {
        let hits = search(&url, "flask-logs-*", &json!({}));
        hits.iter().map(|it| it["_source"].clone()).collect()
    };
    eventually("every line is a document", || {
        shipper.assert_alive();
        search().len() >= 3
    });
    let documents = search();
    assert_eq!(documents.len(), 3, "{documents:#?}");
    for document in &documents {
        assert_eq!(
            document["kubernetes.namespace"], "application",
            "{document:#}"
        );
        assert_eq!(document["kubernetes.pod.name"], POD);
        assert_eq!(document["kubernetes.container.name"], "flask-api");
        // This is in no file's name: the API server said it.
        assert_eq!(document["kubernetes.node.name"], "node-1", "{document:#}");
    }
    let messages: Vec<&str> = documents
        .iter()
        .map(|it| it["message"].as_str().unwrap())
        .collect();
    assert!(messages.contains(&"whole"), "{messages:?}");
    assert!(messages.iter().any(|it| it.len() == 40_000), "{messages:?}");
    let letter = documents
        .iter()
        .find(|it| it["event.kind"] == "pipeline_error");
    assert_eq!(letter.unwrap()["event.original"], "thread 'main' panicked");
}
