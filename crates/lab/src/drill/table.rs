//! Every alert, and what provokes it: the only place that knows.

use super::{
    act::{Act, Beside},
    clock::INTERVAL,
};

/// Something that is broken for a while, and the alerts that shall see it.
#[derive(Debug)]
pub(super) struct Exercise {
    /// Names it, in progress and reports.
    pub(super) name: &'static str,
    /// What happens, in words.
    pub(super) what: &'static str,
    /// Exercises of different lanes do not disturb each other and run at the same time.
    pub(super) lane: Lane,
    /// What is done, in this order; undone in the other.
    pub(super) acts: &'static [Act],
    /// Its last alert ends long after it, and the next exercise is started meanwhile: those that follow in the table do not
    /// provoke it again.
    pub(super) has_aftermath: bool,
}

/// One without an aftermath.
const fn exercise(
    name: &'static str,
    lane: Lane,
    what: &'static str,
    acts: &'static [Act],
) -> Exercise {
    Exercise {
        name,
        what,
        lane,
        acts,
        has_aftermath: false,
    }
}

impl Exercise {
    const fn with_aftermath(mut self) -> Self {
        self.has_aftermath = true;
        self
    }
}

/// The part of the stack that an exercise breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The shop and its customers.
    Service,
    /// Logs and traces.
    Stores,
    /// Prometheus and Alertmanager.
    Watching,
    /// Everything: nothing else runs meanwhile.
    Alone,
}

impl Lane {
    pub(super) const TOGETHER: [Self; 3] = [Self::Service, Self::Stores, Self::Watching];
}

/// An alert's row.
#[derive(Debug)]
pub(super) struct Drill {
    pub(super) alert: &'static str,
    /// Where two rules share a name.
    pub(super) severity: Option<&'static str>,
    pub(super) how: How,
}

#[derive(Debug)]
pub(super) enum How {
    Provoked {
        by: &'static Exercise,
        timing: Timing,
        told: Told,
    },
    /// It always fires; its end is provoked, and the dead man's switch tells.
    Ended { by: &'static Exercise },
    /// Not by this lab, and why.
    NotHere(&'static str),
}

/// What theory has to know beside the rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// The share of its window that has to be bad before the expression holds, in hundredths.
    pub(super) rises: u64,
    /// The share of its window that has to be good before it does not hold any more, in hundredths.
    pub(super) falls: u64,
    /// Seconds from the fault until it is in the metrics, beside the scrape.
    pub(super) shows_after: u64,
    /// Seconds from the end of the fault until it is out of the metrics, beside the scrape.
    pub(super) lingers: u64,
    /// Seconds of the window that decides when it ends, for rules over recordings: on the lab's clock.
    pub(super) forgets: u64,
}

/// Who hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Those whom Alertmanager's routes name for its severity.
    Receivers,
    /// Nobody: this alert, which fires too, is its cause, and silences it.
    Inhibited(&'static str),
    /// Nobody, and why.
    Nobody(&'static str),
}

const fn drill(alert: &'static str, by: &'static Exercise) -> Drill {
    Drill {
        alert,
        severity: None,
        how: How::Provoked {
            by,
            timing: Timing {
                rises: 0,
                falls: 100,
                shows_after: 0,
                lingers: 0,
                forgets: 0,
            },
            told: Told::Receivers,
        },
    }
}

const fn not_here(alert: &'static str, why: &'static str) -> Drill {
    Drill {
        alert,
        severity: None,
        how: How::NotHere(why),
    }
}

impl Drill {
    const fn severity(mut self, severity: &'static str) -> Self {
        self.severity = Some(severity);
        self
    }

    const fn timed(mut self, change: Timing) -> Self {
        if let How::Provoked { timing, .. } = &mut self.how {
            *timing = change;
        }
        self
    }

    const fn timing(&self) -> Timing {
        match self.how {
            How::Provoked { timing, .. } => timing,
            _ => panic!("nothing provokes it"),
        }
    }

    /// The share of the window that has to be bad, in hundredths.
    const fn rises(self, rises: u64) -> Self {
        let timing = Timing {
            rises,
            ..self.timing()
        };
        self.timed(timing)
    }

    /// The share of the window that has to be good, in hundredths.
    const fn falls(self, falls: u64) -> Self {
        let timing = Timing {
            falls,
            ..self.timing()
        };
        self.timed(timing)
    }

    const fn shows_after(self, shows_after: u64) -> Self {
        let timing = Timing {
            shows_after,
            ..self.timing()
        };
        self.timed(timing)
    }

    const fn lingers(self, lingers: u64) -> Self {
        let timing = Timing {
            lingers,
            ..self.timing()
        };
        self.timed(timing)
    }

    const fn forgets(self, forgets: u64) -> Self {
        let timing = Timing {
            forgets,
            ..self.timing()
        };
        self.timed(timing)
    }

    const fn told(mut self, whom: Told) -> Self {
        if let How::Provoked { told, .. } = &mut self.how {
            *told = whom;
        }
        self
    }

    const fn inhibited(self, by: &'static str) -> Self {
        self.told(Told::Inhibited(by))
    }

    /// Its exercise, where there is one.
    pub(super) fn exercise(&self) -> Option<&'static Exercise> {
        match self.how {
            How::Provoked { by, .. } | How::Ended { by } => Some(by),
            How::NotHere(_) => None,
        }
    }

    /// Its name, with the severity where two rules share it.
    pub(super) fn name(&self) -> String {
        match self.severity {
            Some(severity) => format!("{} ({severity})", self.alert),
            None => self.alert.to_owned(),
        }
    }
}

/// A scrape of a process that was stopped fails when its time is over.
const SCRAPE_TIMEOUT: u64 = 4;
/// A client waits this long for a stopped process; a probe a little less.
const PROBE_TIMEOUT: u64 = 4;

const API: &[&str] = &["flask-api-1", "flask-api-2"];
const EVERY: &[(&str, &str)] = &[("probability", "1")];

// --- the shop and its customers -------------------------------------------------

static NO_CUSTOMERS: Exercise = exercise(
    "no-customers",
    Lane::Service,
    "the load generator and the exporter, which asks the API too, are stopped (SIGSTOP)",
    &[Act::Pause(&["loadgen", "custom-flask-exporter"])],
);
static BUSY_GENERATOR: Exercise = exercise(
    "busy-generator",
    Lane::Service,
    "a second load generator may wait for one answer at a time and wants 200 requests a second",
    &[Act::Beside(Beside::BusyGenerator)],
);
static ERRORS: Exercise = exercise(
    "errors",
    Lane::Service,
    "every request of the API is answered with 500",
    &[Act::Fault {
        replicas: API,
        fault: "errors",
        parameters: EVERY,
    }],
)
.with_aftermath();
static SERVICES_STOPPED: Exercise = exercise(
    "services-stopped",
    Lane::Service,
    "payments, then both replicas of the API are stopped (SIGSTOP) with orders under way",
    &[Act::Pause(&["payments"]), Act::Wait(2), Act::Pause(API)],
);
static NO_TARGET: Exercise = exercise(
    "no-target",
    Lane::Service,
    "service discovery forgets payments",
    &[Act::NoTargets("payments")],
);
static REPLICA_STOPPED: Exercise = exercise(
    "replica-stopped",
    Lane::Service,
    "one replica of the API is stopped (SIGSTOP)",
    &[Act::Pause(&["flask-api-2"])],
);
static SLOW: Exercise = exercise(
    "slow",
    Lane::Service,
    "every request of the API waits four seconds, and 60 more requests a second come",
    &[
        Act::Fault {
            replicas: API,
            fault: "latency",
            parameters: &[("probability", "1"), ("delay", "4s")],
        },
        Act::Beside(Beside::Customers),
    ],
)
.with_aftermath();
static CPU: Exercise = exercise(
    "cpu",
    Lane::Service,
    "four threads of one replica compute nothing",
    &[Act::Fault {
        replicas: &["flask-api-1"],
        fault: "cpu",
        parameters: &[("threads", "4")],
    }],
);
static FEW_DESCRIPTORS: Exercise = exercise(
    "few-descriptors",
    Lane::Service,
    "a second payments may open few files more than it has open",
    &[Act::Beside(Beside::FewDescriptors)],
);
static RESTARTS: Exercise = exercise(
    "restarts",
    Lane::Service,
    "a second payments ends and is started again every eight seconds",
    &[Act::Beside(Beside::Restarting)],
);
static PAYMENTS_FAILS: Exercise = exercise(
    "payments-fails",
    Lane::Service,
    "every call of the API to payments fails",
    &[Act::Fault {
        replicas: API,
        fault: "dependency",
        parameters: &[("probability", "1"), ("mode", "failing")],
    }],
);
static PAYMENTS_SLOW: Exercise = exercise(
    "payments-slow",
    Lane::Service,
    "every call of the API to payments waits 0.8 s first",
    &[Act::Fault {
        replicas: API,
        fault: "dependency",
        parameters: &[("probability", "1"), ("mode", "slow"), ("delay", "800ms")],
    }],
);
static DATABASE_HELD: Exercise = exercise(
    "database-held",
    Lane::Service,
    "another connection holds the lock that every order needs",
    &[Act::Fault {
        replicas: &["flask-api-1"],
        fault: "database-lock",
        parameters: &[],
    }],
);
static CERTIFICATE_OLD: Exercise = exercise(
    "certificate-old",
    Lane::Service,
    "the API gets a certificate that is valid for ten more days",
    &[Act::Certificate { days: 10 }],
);
static CERTIFICATE_ENDING: Exercise = exercise(
    "certificate-ending",
    Lane::Service,
    "the API gets a certificate that is valid until tomorrow",
    &[Act::Certificate { days: 1 }],
);
static DATABASE_MISSING: Exercise = exercise(
    "database-missing",
    Lane::Service,
    "a second exporter reads a database that is not there",
    &[Act::Beside(Beside::ExporterWithoutDatabase)],
);
static DATABASE_EMPTY: Exercise = exercise(
    "database-empty",
    Lane::Service,
    "a second exporter reads a database without tables",
    &[Act::Beside(Beside::ExporterWithoutTables)],
);
static UNREAD_OUTPUT: Exercise = exercise(
    "unread-output",
    Lane::Service,
    "nobody reads the log of a second payments, which writes 20,000 lines a second",
    &[Act::Beside(Beside::UnreadOutput)],
);
static SPANS_DROPPED: Exercise = exercise(
    "spans-dropped",
    Lane::Service,
    "both replicas of the API throw every span away",
    &[Act::Fault {
        replicas: API,
        fault: "span-drop",
        parameters: EVERY,
    }],
);
static LABEL_BOMB: Exercise = exercise(
    "label-bomb",
    Lane::Service,
    "a metric of one replica gets a thousand values of a label",
    &[Act::Fault {
        replicas: &["flask-api-2"],
        fault: "label-bomb",
        parameters: &[("series", "1500"), ("series-per-second", "1000")],
    }],
);

// --- logs and traces ------------------------------------------------------------

static LINE_REFUSED: Exercise = exercise(
    "line-refused",
    Lane::Stores,
    "a log line has a field of another type than its index demands",
    &[Act::RefusedLine],
);
static SHARD_HOMELESS: Exercise = exercise(
    "shard-homeless",
    Lane::Stores,
    "an index may only live on a node that does not exist",
    &[Act::HomelessIndex],
);
static HEAP_LIMIT: Exercise = exercise(
    "heap-limit",
    Lane::Stores,
    "Elasticsearch's circuit breaker gets 24 MB as its limit, less than is in use",
    &[Act::BreakerLimit("24mb")],
);
static SHIPPER_STOPPED: Exercise = exercise(
    "shipper-stopped",
    Lane::Stores,
    "the log shipper is stopped (SIGSTOP)",
    &[Act::Pause(&["otelcol"])],
);
static JAEGER_STOPPED: Exercise = exercise(
    "jaeger-stopped",
    Lane::Stores,
    "Jaeger is stopped (SIGSTOP)",
    &[Act::Pause(&["jaeger"])],
);
static STORE_STOPPED: Exercise = exercise(
    "store-stopped",
    Lane::Stores,
    "Elasticsearch is stopped (SIGSTOP)",
    &[Act::Pause(&["elasticsearch"])],
);
static LOG_FLOOD: Exercise = exercise(
    "log-flood",
    Lane::Service,
    "payments writes 10,000 log lines a second",
    &[Act::Fault {
        replicas: &["payments"],
        fault: "log-flood",
        parameters: &[("rate", "10000")],
    }],
);

// --- Prometheus and Alertmanager ------------------------------------------------

static BAD_PROMETHEUS_CONFIG: Exercise = exercise(
    "bad-prometheus-config",
    Lane::Watching,
    "Prometheus is asked to reload a broken configuration",
    &[Act::BreakConfig("prometheus")],
);
static BAD_RULE: Exercise = exercise(
    "bad-rule",
    Lane::Watching,
    "Prometheus gets a rule that matches many series to many",
    &[Act::MoreRules(
        r#"
  - name: drill-fails
    rules:
      - record: drill:fails
        expr: up * on () up
"#,
    )],
);
static SLOW_RULE: Exercise = exercise(
    "slow-rule",
    Lane::Watching,
    "Prometheus gets a group of rules that takes longer than its interval of 2 ms",
    &[Act::MoreRules(
        r#"
  - name: drill-slow
    interval: 2ms
    rules:
      - record: drill:slow
        expr: count(count by (__name__, instance) ({__name__=~".+"}))
"#,
    )],
);
static DAMAGED_BLOCK: Exercise = exercise(
    "damaged-block",
    Lane::Watching,
    "a block without an index lies in Prometheus' storage",
    &[Act::DamagedBlock],
);
static OWN_TIMESTAMPS: Exercise = exercise(
    "own-timestamps",
    Lane::Watching,
    "a target stamps its samples itself, and its clock jumps back",
    &[Act::StampedPage],
);
static NO_ALERTMANAGER: Exercise = exercise(
    "no-alertmanager",
    Lane::Watching,
    "service discovery forgets Alertmanager",
    &[Act::NoTargets("alertmanager")],
);
static SECOND_ALERTMANAGER: Exercise = exercise(
    "second-alertmanager",
    Lane::Watching,
    "service discovery names a second Alertmanager, where nobody listens",
    &[Act::AbsentTarget("alertmanager")],
);
static BAD_ALERTMANAGER_CONFIG: Exercise = exercise(
    "bad-alertmanager-config",
    Lane::Watching,
    "Alertmanager is asked to reload a broken configuration",
    &[Act::BreakConfig("alertmanager")],
);
static MAIL_BROKEN: Exercise = exercise(
    "mail-broken",
    Lane::Alone,
    "the mail server answers 451, and a fault that does no harm gives reason for a mail",
    &[
        Act::BreakChannel("email"),
        Act::Fault {
            replicas: &["flask-api-2"],
            fault: "log-malformed",
            parameters: &[],
        },
    ],
);

// --- everything -----------------------------------------------------------------

static MACHINE_BUSY: Exercise = exercise(
    "machine-busy",
    Lane::Alone,
    "idle loops of lowest priority take what CPU time is left",
    &[Act::Burn],
);
static PROMETHEUS_STOPPED: Exercise = exercise(
    "prometheus-stopped",
    Lane::Alone,
    "Prometheus is stopped (SIGSTOP)",
    &[Act::Pause(&["prometheus"])],
);

const MACHINE: &str = "it is about the whole machine, which the drill leaves alone";
const HARDWARE: &str = "only hardware does it";
const DISK: &str = "it needs a disk that fills up; the drill fills nobody's disk";
const CONTAINER: &str = "it needs a container with a limit: Kubernetes, or `docker run`";
const CLUSTER: &str = "it needs a cluster: kube-state-metrics or the kubelet";

/// All of them, in the order in which they are drilled.
pub(super) const DRILLS: &[Drill] = &[
    // The shop and its customers. Objectives remember for minutes: nothing fails or is slow in what follows, for as long.
    // Fifteen errors in five minutes, of a route that has one or two requests a second.
    drill("HighErrorRate", &ERRORS).rises(5),
    drill("HandlerExceptions", &ERRORS),
    drill("AvailabilityBudgetBurn", &ERRORS)
        .severity("critical")
        .shows_after(INTERVAL)
        .forgets(30)
        .lingers(INTERVAL),
    drill("AvailabilityBudgetBurn", &ERRORS)
        .severity("warning")
        .shows_after(INTERVAL)
        .forgets(360)
        .lingers(INTERVAL)
        .inhibited("AvailabilityBudgetBurn"),
    drill("HighLatency", &SLOW).shows_after(SCRAPE_TIMEOUT),
    drill("RequestsPilingUp", &SLOW)
        .rises(60)
        .falls(60)
        .shows_after(SCRAPE_TIMEOUT),
    drill("LatencyBudgetBurn", &SLOW)
        .severity("critical")
        .shows_after(SCRAPE_TIMEOUT + INTERVAL)
        .forgets(30)
        .lingers(INTERVAL),
    drill("LatencyBudgetBurn", &SLOW)
        .severity("warning")
        .shows_after(SCRAPE_TIMEOUT + INTERVAL)
        .forgets(360)
        .lingers(INTERVAL)
        .inhibited("LatencyBudgetBurn"),
    // A file of targets is read again within five seconds.
    drill("ServiceMissing", &NO_TARGET)
        .shows_after(INTERVAL)
        .lingers(INTERVAL),
    drill("FileDescriptorsRunningOut", &FEW_DESCRIPTORS).shows_after(INTERVAL),
    drill("ServiceRestarting", &RESTARTS).shows_after(32),
    drill("CertificateExpiresSoon", &CERTIFICATE_OLD),
    drill("CertificateExpiring", &CERTIFICATE_ENDING),
    drill("ShopDatabaseUnreadable", &DATABASE_MISSING).shows_after(INTERVAL),
    drill("ShopCollectorFailing", &DATABASE_EMPTY).shows_after(INTERVAL),
    drill("LogLinesDropped", &UNREAD_OUTPUT).shows_after(2 * INTERVAL),
    drill("SpansLost", &SPANS_DROPPED).shows_after(2),
    drill("TracesMissing", &SPANS_DROPPED)
        .rises(100)
        .falls(0)
        .shows_after(10)
        .lingers(10),
    drill("SampleLimitExceeded", &LABEL_BOMB),
    drill("LogShipperBehind", &LOG_FLOOD)
        .shows_after(30)
        .lingers(120),
    drill("ServiceCPUSaturated", &CPU).rises(95).falls(10),
    // From here on something fails or is slow.
    drill("NoTraffic", &NO_CUSTOMERS).rises(100).falls(0),
    drill("TargetDown", &NO_CUSTOMERS).shows_after(SCRAPE_TIMEOUT),
    drill("ScrapeSlow", &NO_CUSTOMERS)
        .rises(60)
        .falls(60)
        .shows_after(SCRAPE_TIMEOUT),
    drill("LoadGeneratorSaturated", &BUSY_GENERATOR).shows_after(INTERVAL),
    drill("DependencySlow", &PAYMENTS_SLOW),
    drill("FaultActive", &PAYMENTS_SLOW),
    drill("DependencyFailing", &PAYMENTS_FAILS),
    drill("CircuitBreakerOpen", &PAYMENTS_FAILS)
        .shows_after(INTERVAL)
        .lingers(10)
        .inhibited("DependencyFailing"),
    drill("DatabasePoolSaturated", &DATABASE_HELD).shows_after(INTERVAL),
    drill("ReplicaDown", &REPLICA_STOPPED).shows_after(SCRAPE_TIMEOUT),
    drill("ProbeFailing", &REPLICA_STOPPED).shows_after(PROBE_TIMEOUT),
    drill("ProbeSlow", &REPLICA_STOPPED)
        .rises(40)
        .shows_after(PROBE_TIMEOUT)
        .inhibited("ProbeFailing"),
    drill("ServiceDown", &SERVICES_STOPPED).shows_after(SCRAPE_TIMEOUT),
    drill("OrdersStuckPending", &SERVICES_STOPPED)
        .shows_after(20)
        .lingers(60),
    // Logs and traces.
    drill("LogLinesRejected", &LINE_REFUSED).shows_after(INTERVAL),
    drill("ElasticsearchRed", &SHARD_HOMELESS)
        .shows_after(10)
        .lingers(10),
    drill("ElasticsearchHeapHigh", &HEAP_LIMIT)
        .shows_after(10)
        .lingers(10),
    drill("LogShipperDown", &SHIPPER_STOPPED).shows_after(SCRAPE_TIMEOUT),
    drill("JaegerDown", &JAEGER_STOPPED).shows_after(SCRAPE_TIMEOUT),
    drill("ElasticsearchDown", &STORE_STOPPED).shows_after(PROBE_TIMEOUT),
    drill("LogsNotDelivered", &STORE_STOPPED)
        .rises(100)
        .falls(0)
        .lingers(10)
        .inhibited("ElasticsearchDown"),
    // Watching.
    drill("PrometheusConfigReloadFailed", &BAD_PROMETHEUS_CONFIG),
    drill("PrometheusRuleFailures", &BAD_RULE).shows_after(INTERVAL),
    drill("PrometheusMissingEvaluations", &SLOW_RULE),
    // Blocks are looked through once a minute.
    drill("PrometheusStorageFailing", &DAMAGED_BLOCK)
        .shows_after(60)
        .lingers(60),
    drill("PrometheusSamplesRejected", &OWN_TIMESTAMPS).shows_after(2 * INTERVAL),
    drill("AlertmanagerConfigReloadFailed", &BAD_ALERTMANAGER_CONFIG),
    drill("AlertmanagerDown", &SECOND_ALERTMANAGER).shows_after(INTERVAL),
    drill("PrometheusNotificationsFailing", &SECOND_ALERTMANAGER)
        .shows_after(15)
        .inhibited("AlertmanagerDown"),
    drill("PrometheusWithoutAlertmanager", &NO_ALERTMANAGER)
        .shows_after(INTERVAL)
        .lingers(INTERVAL)
        .told(Told::Nobody(
            "Prometheus knows nobody to tell; whoever misses the Watchdog finds out",
        )),
    // Everything.
    drill("AlertmanagerNotificationsFailing", &MAIL_BROKEN).shows_after(60),
    drill("NodeCPUSaturated", &MACHINE_BUSY).rises(95).falls(50),
    Drill {
        alert: "Watchdog",
        severity: None,
        how: How::Ended {
            by: &PROMETHEUS_STOPPED,
        },
    },
    // Not here.
    not_here(
        "JaegerDroppingSpans",
        "Jaeger's storage in memory takes everything, and what is no OTLP is refused before it is counted",
    ),
    not_here("ElasticsearchDiskLow", DISK),
    not_here("NodeMemoryLow", MACHINE),
    not_here("NodeOutOfMemoryKill", MACHINE),
    not_here("NodeDiskSpaceLow", DISK),
    not_here("NodeDiskFull", DISK),
    not_here("NodeDiskFillingUp", DISK),
    not_here("NodeDiskSaturated", MACHINE),
    not_here("NodeNetworkErrors", HARDWARE),
    not_here("NodeClockSkewed", MACHINE),
    not_here("NodeFileDescriptorsRunningOut", MACHINE),
    not_here("ContainerMemoryNearLimit", CONTAINER),
    not_here("ContainerOutOfMemoryKill", CONTAINER),
    not_here("ContainerThrottled", CONTAINER),
    not_here("KubePodCrashLooping", CLUSTER),
    not_here("KubePodNotReady", CLUSTER),
    not_here("KubeReplicasMismatch", CLUSTER),
    not_here("KubeNodeNotReady", CLUSTER),
    not_here("KubeVolumeFillingUp", CLUSTER),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::drill::rules::Rules;

    #[test]
    fn every_alert_has_one_row_and_every_row_an_alert() {
        let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let mut alerts = BTreeSet::new();
        for file in ["alerts.yml", "slo-rules.yml"] {
            let text = std::fs::read_to_string(format!("{project}/prometheus/{file}")).unwrap();
            for rule in Rules::parse(&text).unwrap().alerts {
                assert!(
                    alerts.insert((rule.name.clone(), rule.severity.clone())),
                    "{rule:?} twice"
                );
            }
        }
        let names = |alert: &str| alerts.iter().filter(|(name, _)| name == alert).count();
        let mut rows = BTreeSet::new();
        for drill in DRILLS {
            assert!(rows.insert(drill.name()), "{} twice", drill.name());
            assert_eq!(
                names(drill.alert) > 1,
                drill.severity.is_some(),
                "{}",
                drill.name()
            );
            assert!(
                alerts.iter().any(|(name, severity)| name == drill.alert
                    && drill.severity.is_none_or(|it| it == severity)),
                "there is no alert {}",
                drill.name()
            );
        }
        assert_eq!(rows.len(), alerts.len(), "an alert without a row");
    }

    #[test]
    fn exercises_are_told_apart_and_name_real_components() {
        let mut names = std::collections::BTreeMap::new();
        for exercise in DRILLS.iter().filter_map(Drill::exercise) {
            let first = names.entry(exercise.name).or_insert(exercise);
            assert!(std::ptr::eq(*first, exercise), "{} twice", exercise.name);
            for act in exercise.acts {
                for component in act.components() {
                    stack::table::find(component).unwrap();
                }
            }
        }
    }

    #[test]
    fn what_is_inhibited_is_provoked_together_with_its_cause() {
        for drill in DRILLS {
            let How::Provoked {
                by,
                told: Told::Inhibited(cause),
                ..
            } = drill.how
            else {
                continue;
            };
            assert!(
                DRILLS.iter().any(|other| other.alert == cause
                    && other.exercise().is_some_and(|it| std::ptr::eq(it, by))),
                "{}",
                drill.name()
            );
        }
    }
}
