//! `compose.yaml`, without Docker: what it mounts is there, and who waits for whom.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::running::project;

/// Where compose resolves a name outside of the repository: secrets that are copied there, and a lab's data.
const OF_THE_USER: [&str; 1] = ["./.lab/"];

#[test]
fn every_service_has_the_files_that_it_is_told_of() {
    let text = std::fs::read_to_string(project().join("compose.yaml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    let volumes = compose["volumes"].as_object().unwrap();
    for (name, service) in services {
        let list = |key: &str| -> Vec<String> {
            let items = service[key].as_array().cloned().unwrap_or_default();
            items
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect()
        };
        // Loopback is the host's, so no port is published to anybody else.
        assert_eq!(service["network_mode"], "host", "{name}");
        assert_eq!(service["ports"], Value::Null, "{name}");
        let arguments = [list("entrypoint"), list("command")].concat().join(" ");
        let environment = service["environment"].to_string();
        for told in [&arguments, &environment] {
            assert!(!told.contains("0.0.0.0"), "{name} listens for all: {told}");
        }
        assert!(list("cap_drop").contains(&"ALL".to_owned()), "{name}");
        assert!(service["image"].as_str().unwrap().contains(':'), "{name}");

        for volume in list("volumes") {
            let mut parts = volume.split(':');
            let (from, to) = (parts.next().unwrap(), parts.next().unwrap());
            if !from.starts_with("./") {
                assert!(volumes.contains_key(from), "{name}: no volume {from}");
                continue;
            }
            if OF_THE_USER.iter().any(|it| from.starts_with(it)) {
                continue;
            }
            assert!(project().join(from).exists(), "{name}: no file {from}");
            // What the command names below it is there too.
            let below = format!("{to}/");
            for rest in arguments.split(&below).skip(1) {
                let file = rest.split([' ', '"']).next().unwrap();
                let file = project().join(from).join(file);
                assert!(file.exists(), "{name}: no file {}", file.display());
            }
        }
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let other = &services[other];
            assert_eq!(other["profiles"], service["profiles"], "{name}");
            if how["condition"] == "service_healthy" {
                assert!(other["healthcheck"].is_object(), "{name}: {how}");
            }
        }
    }

    // What a cluster runs too is of the same version there.
    let manifests = ["k8s/elk-stack.yaml", "k8s/alerting/alertmanager.yaml"]
        .map(|file| std::fs::read_to_string(project().join(file)).unwrap())
        .concat();
    for service in services.values() {
        let image = service["image"].as_str().unwrap();
        assert!(manifests.contains(&format!("image: {image}\n")), "{image}");
    }

    let logs: BTreeSet<&str> = services
        .iter()
        .filter(|it| it.1["profiles"].as_array().is_some())
        .map(|it| it.0.as_str())
        .collect();
    assert_eq!(
        logs,
        [
            "elasticsearch",
            "elasticsearch-setup",
            "fluent-bit",
            "kibana",
            "kibana-import"
        ]
        .into()
    );
    // Fluent Bit knows no defaults: it is told everything that it asks for.
    let told = services["fluent-bit"]["environment"].as_object().unwrap();
    for file in ["fluent-bit.yaml", "fluent-bit-elasticsearch.yaml"] {
        let text = std::fs::read_to_string(project().join("elk").join(file)).unwrap();
        for rest in text.split("${").skip(1) {
            let variable = &rest[..rest.find('}').unwrap()];
            assert!(told.contains_key(variable), "{variable} is not set");
        }
    }
}
