//! The machines and what runs on them: of a cluster, and as far as it goes of a laptop.

use crate::{
    Error, Facts,
    build::{Draft, Page},
    model::Dashboard,
};

/// What links and alerts call it.
pub const UID: &str = "kubernetes";

const NODE: &str = r#"job="node", instance=~"$instance""#;
/// Containers: in a cluster by their names, elsewhere by their control group. Kubernetes also has sums over
/// a pod or more, which have no container's name and would count everything twice.
const CONTAINER: &str =
    r#"job="cadvisor", instance=~"$instance", namespace=~"$namespace", id!="/", container!="POD""#;
const POD: &str = r#"namespace=~"$namespace""#;
/// Who a container is.
const WHO: &str = "{{namespace}} {{pod}} {{container}} {{id}}";

pub(crate) fn dashboard(facts: &Facts) -> Result<Dashboard, Error> {
    let mut page = Page::new(
        UID,
        "Kubernetes Cluster",
        "Have the nodes enough of everything, do the pods run, and how near are they to what they asked for and may have. Without a cluster it shows this machine and its control groups.",
        "now-1h",
    );
    page.variable(
        "instance",
        "Node",
        r#"label_values(node_uname_info{job="node"}, instance)"#,
        ".+",
    );
    page.variable(
        "namespace",
        "Namespace",
        "label_values(kube_pod_info, namespace)",
        ".*",
    );
    glance(&mut page, facts)?;
    nodes(&mut page, facts)?;
    network(&mut page);
    storage(&mut page, facts)?;
    pods(&mut page, facts)?;
    requests_and_limits(&mut page, facts)?;
    containers(&mut page, facts)?;
    Ok(page.finish())
}

const CPU: &str = r#"1 - avg by (instance) (rate(node_cpu_seconds_total{job="node", instance=~"$instance", mode="idle"}[$__rate_interval]))"#;

fn memory_used() -> String {
    format!("1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes{{{NODE}}}")
}

fn disk_used() -> String {
    let disks = format!(r#"{NODE}, fstype!~"tmpfs|ramfs|squashfs|iso9660""#);
    format!(
        "1 - min by (instance, mountpoint) (node_filesystem_avail_bytes{{{disks}}} / node_filesystem_size_bytes{{{disks}}})"
    )
}

fn glance(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("At a glance");
    page.put(
        4,
        4,
        Draft::stat("Nodes", "short", "Machines that node_exporter speaks for.")
            .steps("blue", &[])
            .line(&format!("count(node_uname_info{{{NODE}}})"), "nodes"),
    );
    page.put(
        4,
        4,
        Draft::stat("Nodes not ready", "short", "Nodes on which Kubernetes starts nothing (KubeNodeNotReady).")
            .steps("green", &[(1.0, "red")])
            .when_empty("no cluster")
            .line(
                r#"count(kube_node_status_condition{condition="Ready", status="true", node=~"$instance"}) - sum(kube_node_status_condition{condition="Ready", status="true", node=~"$instance"})"#,
                "not ready",
            ),
    );
    page.put(
        4,
        4,
        Draft::gauge(
            "CPU, busiest node",
            "percentunit",
            "Share of its CPU in use; red: NodeCPUSaturated.",
        )
        .between(0.0, 1.0)
        .decimals(0)
        .steps(
            "green",
            &[
                (0.7, "yellow"),
                (facts.threshold("NodeCPUSaturated")?, "red"),
            ],
        )
        .line(&format!("max({CPU})"), "CPU"),
    );
    page.put(
        4,
        4,
        Draft::gauge(
            "Memory, fullest node",
            "percentunit",
            "Share of its memory in use; red: NodeMemoryLow.",
        )
        .between(0.0, 1.0)
        .decimals(0)
        .steps(
            "green",
            &[(0.8, "yellow"), (facts.complement("NodeMemoryLow")?, "red")],
        )
        .line(&format!("max({})", memory_used()), "memory"),
    );
    page.put(
        4,
        4,
        Draft::gauge(
            "Disk, fullest",
            "percentunit",
            "Share of the fullest file system in use; red: NodeDiskSpaceLow.",
        )
        .between(0.0, 1.0)
        .decimals(0)
        .steps(
            "green",
            &[
                (0.8, "yellow"),
                (facts.complement("NodeDiskSpaceLow")?, "red"),
            ],
        )
        .line(&format!("max({})", disk_used()), "disk"),
    );
    page.put(
        4,
        4,
        Draft::stat(
            "Pods not running",
            "short",
            "Pods that are pending, failed or in an unknown state (KubePodNotReady).",
        )
        .steps("green", &[(1.0, "red")])
        .when_empty("no cluster")
        .line(
            &format!(r#"sum(kube_pod_status_phase{{{POD}, phase=~"Pending|Unknown|Failed"}})"#),
            "not running",
        ),
    );
    Ok(())
}

fn nodes(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Node CPU and memory");
    page.put(
        8,
        8,
        Draft::timeseries(
            "CPU by node",
            "percentunit",
            "Share of all cores in use; the line is where NodeCPUSaturated fires.",
        )
        .between(0.0, 1.0)
        .limit(facts.threshold("NodeCPUSaturated")?)
        .line(CPU, "{{instance}}"),
    );
    page.put(
        8,
        8,
        Draft::timeseries(
            "Load for each core",
            "short",
            "Processes that run or wait, for each core. Above 1 they wait.",
        )
        .zero_based()
        .line(
            r#"instance:node_load1_per_cpu:ratio{instance=~"$instance"}"#,
            "{{instance}}",
        ),
    );
    page.put(
        8,
        8,
        Draft::timeseries("Memory by node", "percentunit", "Share in use, what the kernel could give back left out; the line is where NodeMemoryLow fires.")
            .between(0.0, 1.0)
            .limit(facts.complement("NodeMemoryLow")?)
            .line(&memory_used(), "{{instance}}"),
    );
    Ok(())
}

fn network(page: &mut Page) {
    page.row("Network I/O");
    page.put(
        12,
        7,
        Draft::timeseries("Network by node", "Bps", "Received above, sent below zero; the loopback interface is left out.")
            .line(
                &format!(r#"sum by (instance) (rate(node_network_receive_bytes_total{{{NODE}, device!="lo"}}[$__rate_interval]))"#),
                "{{instance}} received",
            )
            .line(
                &format!(r#"- sum by (instance) (rate(node_network_transmit_bytes_total{{{NODE}, device!="lo"}}[$__rate_interval]))"#),
                "{{instance}} sent",
            ),
    );
    page.put(
        12,
        7,
        Draft::timeseries("Network errors", "pps", "Packets a second that came or went wrong, and that were dropped (NodeNetworkErrors).")
            .zero_based()
            .line(
                &format!(
                    r#"sum by (instance) (rate(node_network_receive_errs_total{{{NODE}, device!="lo"}}[$__rate_interval])) + sum by (instance) (rate(node_network_transmit_errs_total{{{NODE}, device!="lo"}}[$__rate_interval]))"#
                ),
                "{{instance}} errors",
            )
            .line(
                &format!(
                    r#"sum by (instance) (rate(node_network_receive_drop_total{{{NODE}, device!="lo"}}[$__rate_interval])) + sum by (instance) (rate(node_network_transmit_drop_total{{{NODE}, device!="lo"}}[$__rate_interval]))"#
                ),
                "{{instance}} dropped",
            ),
    );
}

fn storage(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Storage");
    page.put(
        8,
        7,
        Draft::timeseries(
            "File systems",
            "percentunit",
            "Share in use; the line is where NodeDiskSpaceLow fires.",
        )
        .between(0.0, 1.0)
        .limit(facts.complement("NodeDiskSpaceLow")?)
        .line(&disk_used(), "{{instance}} {{mountpoint}}"),
    );
    page.put(
        8,
        7,
        Draft::timeseries("Disk I/O", "Bps", "Read above, written below zero.")
            .line(
                &format!("sum by (instance) (rate(node_disk_read_bytes_total{{{NODE}}}[$__rate_interval]))"),
                "{{instance}} read",
            )
            .line(
                &format!("- sum by (instance) (rate(node_disk_written_bytes_total{{{NODE}}}[$__rate_interval]))"),
                "{{instance}} written",
            ),
    );
    page.put(
        8,
        7,
        Draft::bars("Persistent volumes", "percentunit", "Share of each volume in use; red: KubeVolumeFillingUp.")
            .between(0.0, 1.0)
            .steps("green", &[(0.8, "yellow"), (facts.complement("KubeVolumeFillingUp")?, "red")])
            .when_empty("no cluster")
            .now(
                &format!(
                    "max by (namespace, persistentvolumeclaim) (1 - kubelet_volume_stats_available_bytes{{{POD}}} / kubelet_volume_stats_capacity_bytes{{{POD}}})"
                ),
                "{{namespace}} {{persistentvolumeclaim}}",
            ),
    );
    Ok(())
}

fn pods(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Pods");
    page.put(
        8,
        7,
        Draft::timeseries(
            "Pods by phase",
            "short",
            "Pods that run, wait, are done or have failed.",
        )
        .stacked()
        .zero_based()
        .decimals(0)
        .line(
            &format!("sum by (phase) (kube_pod_status_phase{{{POD}}}) > 0"),
            "{{phase}}",
        ),
    );
    page.put(
        8,
        7,
        Draft::timeseries("Restarts", "short", "Restarts of containers in each step; over and over is KubePodCrashLooping.")
            .zero_based()
            .line(
                &format!("sum by (namespace, pod) (increase(kube_pod_container_status_restarts_total{{{POD}}}[$__rate_interval]))"),
                "{{namespace}} {{pod}}",
            ),
    );
    page.put(
        8,
        7,
        Draft::timeseries("Replicas missing", "short", "Replicas asked for that are not there; the line is where KubeReplicasMismatch fires.")
            .zero_based()
            .decimals(0)
            .limit(1.0)
            .line(
                &format!("sum by (namespace, deployment) (kube_deployment_spec_replicas{{{POD}}} - kube_deployment_status_replicas_available{{{POD}}})"),
                "{{namespace}} {{deployment}}",
            )
            .line(
                &format!("sum by (namespace, statefulset) (kube_statefulset_replicas{{{POD}}} - kube_statefulset_status_replicas_ready{{{POD}}})"),
                "{{namespace}} {{statefulset}}",
            ),
    );
    page.put(
        12,
        7,
        Draft::table("Pods that do not run", "none", "Pods that are not running or done, and the phase in which they are.")
            .when_empty("all run")
            .columns(&format!(
                r#"max by (namespace, pod, phase) (kube_pod_status_phase{{{POD}, phase=~"Pending|Unknown|Failed"}}) == 1"#
            ))
            .named(
                &[("namespace", "Namespace"), ("pod", "Pod"), ("phase", "Phase")],
                &["Time", "Value"],
            ),
    );
    page.put(
        12,
        7,
        Draft::table("Containers that wait", "none", "Containers that cannot start, and why: an image that cannot be had, a crash loop.")
            .when_empty("none waits")
            .columns(&format!(
                "max by (namespace, pod, container, reason) (kube_pod_container_status_waiting_reason{{{POD}}}) == {}",
                facts.threshold("KubePodCrashLooping")?
            ))
            .named(
                &[("namespace", "Namespace"), ("pod", "Pod"), ("container", "Container"), ("reason", "Why")],
                &["Time", "Value"],
            ),
    );
    Ok(())
}

/// What is used, asked for and allowed, by namespace.
fn against(used: &str, resource: &str) -> [(String, &'static str); 3] {
    let asked = |what: &str| {
        format!(
            r#"sum by (namespace) (kube_pod_container_resource_{what}{{{POD}, resource="{resource}"}})"#
        )
    };
    [
        (used.to_owned(), "{{namespace}} used"),
        (asked("requests"), "{{namespace}} asked for"),
        (asked("limits"), "{{namespace}} at most"),
    ]
}

fn requests_and_limits(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Requests against limits");
    let cpu = format!(
        r#"sum by (namespace) (rate(container_cpu_usage_seconds_total{{{CONTAINER}, container!=""}}[$__rate_interval]))"#
    );
    let memory = format!(
        r#"sum by (namespace) (container_memory_working_set_bytes{{{CONTAINER}, container!=""}})"#
    );
    let draft = against(&cpu, "cpu").iter().fold(
        Draft::timeseries("CPU used, asked for and allowed", "short", "Cores by namespace. What is used above what is asked for is at the mercy of the neighbours.")
            .zero_based(),
        |draft, (expr, legend)| draft.line(expr, legend),
    );
    page.put(12, 8, draft);
    let draft = against(&memory, "memory").iter().fold(
        Draft::timeseries(
            "Memory used, asked for and allowed",
            "bytes",
            "Bytes by namespace. Above what is allowed a container is killed.",
        )
        .zero_based(),
        |draft, (expr, legend)| draft.line(expr, legend),
    );
    page.put(12, 8, draft);
    page.put(
        12,
        8,
        Draft::table("Containers against their limits", "percentunit", "Share of its memory limit that each container uses (ContainerMemoryNearLimit), and of its CPU time in which it was held back (ContainerThrottled).")
            .when_empty("no container has a limit")
            .columns(&format!(
                "max by (namespace, pod, container, id) (container_memory_working_set_bytes{{{CONTAINER}}} / (container_spec_memory_limit_bytes{{{CONTAINER}}} > 0))"
            ))
            .columns(&format!(
                "max by (namespace, pod, container, id) (increase(container_cpu_cfs_throttled_periods_total{{{CONTAINER}}}[$__rate_interval]) / (increase(container_cpu_cfs_periods_total{{{CONTAINER}}}[$__rate_interval]) > 0))"
            ))
            .named(
                &[
                    ("namespace", "Namespace"),
                    ("pod", "Pod"),
                    ("container", "Container"),
                    ("id", "Control group"),
                    ("Value #A", "Memory"),
                    ("Value #B", "Held back"),
                ],
                &["Time"],
            )
            .steps(
                "green",
                &[
                    (facts.threshold("ContainerThrottled")?, "yellow"),
                    (facts.threshold("ContainerMemoryNearLimit")?, "red"),
                ],
            ),
    );
    page.put(
        12,
        8,
        Draft::timeseries("Killed for want of memory", "short", "Containers that the kernel killed in each step (ContainerOutOfMemoryKill).")
            .zero_based()
            .line(
                &format!("sum by (namespace, pod, container, id) (increase(container_oom_events_total{{{CONTAINER}}}[$__rate_interval]))"),
                WHO,
            ),
    );
    Ok(())
}

fn containers(page: &mut Page, facts: &Facts) -> Result<(), Error> {
    page.row("Containers, or control groups where there is no cluster");
    page.put(
        8,
        8,
        Draft::timeseries("CPU, the ten busiest", "short", "Cores in use.")
            .zero_based()
            .line(
                &format!("topk(10, sum by (namespace, pod, container, id) (rate(container_cpu_usage_seconds_total{{{CONTAINER}}}[$__rate_interval])))"),
                WHO,
            ),
    );
    page.put(
        8,
        8,
        Draft::timeseries("Memory, the ten largest", "bytes", "Working set: what cannot be given back.")
            .zero_based()
            .line(
                &format!("topk(10, sum by (namespace, pod, container, id) (container_memory_working_set_bytes{{{CONTAINER}}}))"),
                WHO,
            ),
    );
    page.put(
        8,
        8,
        Draft::timeseries("Held back, the ten most", "percentunit", "Share of periods in which a container wanted more CPU than it may have; the line is where ContainerThrottled fires.")
            .zero_based()
            .limit(facts.threshold("ContainerThrottled")?)
            .when_empty("none has a limit")
            .line(
                &format!(
                    "topk(10, sum by (namespace, pod, container, id) (rate(container_cpu_cfs_throttled_periods_total{{{CONTAINER}}}[$__rate_interval])) / (sum by (namespace, pod, container, id) (rate(container_cpu_cfs_periods_total{{{CONTAINER}}}[$__rate_interval])) > 0))"
                ),
                WHO,
            ),
    );
    Ok(())
}
