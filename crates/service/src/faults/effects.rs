//! What a fault does by itself, on a thread of its own, until its end.

use std::{
    thread,
    time::{Duration, Instant},
};

use prometheus::{
    Opts,
    core::{Collector, Desc},
    proto::{Counter, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{Active, Fault, Faults};

/// How often a thread that does something looks whether it is to end.
const BEAT: Duration = Duration::from_millis(20);
const FOREVER: Duration = Duration::from_secs(24 * 3600);
const MIB: usize = 1024 * 1024;

/// Does what the fault is about and returns when it is over.
pub(super) fn run(faults: &Faults, active: &Active) {
    match active.fault() {
        Fault::Cpu => burn(active),
        Fault::Memory => grow(active),
        Fault::LogFlood => flood(active),
        Fault::LogMalformed => write_nonsense(faults, active),
        Fault::SpanDrop => {
            let sabotage = faults.sabotage();
            sabotage.lose_spans(active.settings().number("probability"));
            active.wait(FOREVER);
            sabotage.lose_spans(0.0);
        }
        Fault::Unready => {
            faults.set_ready(false);
            active.wait(FOREVER);
            faults.set_ready(true);
        }
        Fault::Crash => {
            active.wait(FOREVER);
            if !active.is_stopped() {
                // As a crash is: no destructor runs, nothing is flushed.
                std::process::abort();
            }
        }
        // These are read by whom they concern.
        Fault::Errors
        | Fault::Latency
        | Fault::Dependency
        | Fault::DatabaseLock
        | Fault::TraceBreak
        | Fault::LabelBomb => {
            active.wait(FOREVER);
        }
    }
}

fn burn(active: &Active) {
    let threads = active.settings().count("threads");
    let busy = BEAT.mul_f64(active.settings().number("load"));
    thread::scope(|scope| {
        for _ in 0..threads {
            // Fewer than asked for, where the system has no more threads to give.
            let _ = thread::Builder::new()
                .name("chaos-cpu".into())
                .spawn_scoped(scope, || {
                    loop {
                        let started = Instant::now();
                        while started.elapsed() < busy {
                            std::hint::spin_loop();
                        }
                        if active.wait(BEAT.saturating_sub(busy)) {
                            return;
                        }
                    }
                });
        }
    });
}

fn grow(active: &Active) {
    let most = active.settings().count("mib");
    let per_second = active.settings().number("mib-per-second");
    let mut leak: Vec<Box<[u8]>> = Vec::new();
    let started = Instant::now();
    while !active.wait(BEAT) {
        let wanted = (started.elapsed().as_secs_f64() * per_second) as u64;
        while (leak.len() as u64) < wanted.min(most) {
            // Not zeros, which the system would promise and never hand out.
            leak.push(vec![0xA5; MIB].into());
        }
    }
}

fn flood(active: &Active) {
    let rate = active.settings().count("rate");
    let (started, mut written) = (Instant::now(), 0_u64);
    while !active.wait(BEAT) {
        let wanted = (started.elapsed().as_secs_f64() * rate as f64) as u64;
        for line in written..wanted {
            tracing::info!(
                { chaos.fault = "log-flood", chaos.line = line },
                "a line that says nothing, and there are many of them"
            );
        }
        written = wanted;
    }
}

/// What programs really write into their logs.
const NONSENSE: [&[u8]; 6] = [
    b"{\"@timestamp\":\"2026-11-25T00:00:00Z\",\"log.level\":\"info\",\"message\":\"cut off in the mid\n",
    b"thread 'main' panicked at src/shop.rs:42:7:\nchaos: a panic has several lines, and none is JSON\nnote: run with `RUST_BACKTRACE=1`\n",
    b"chaos: Latin-1 is no UTF-8: caf\xe9 \xff\xfe\n",
    b"{\"message\":\"chaos: two objects\"}{\"message\":\"on one line\"}\n",
    b"{\"message\":\"chaos: the wrong types\",\"@timestamp\":\"yesterday\",\"http.response.status_code\":\"five hundred\"}\n",
    b"[1,2,\"chaos: JSON, but no object\"]\n",
];

fn write_nonsense(faults: &Faults, active: &Active) {
    let sabotage = faults.sabotage();
    let pause = Duration::from_secs(1).div_f64(active.settings().count("rate") as f64);
    for piece in NONSENSE.iter().cycle() {
        sabotage.write_to_log(piece);
        if active.wait(pause) {
            return;
        }
    }
}

/// What a metric looks like whose label takes whatever comes: here customers that do not exist.
/// It is not there while nobody asks for it, and gone afterwards.
pub(super) struct LabelBomb {
    faults: Faults,
    description: Desc,
}

impl LabelBomb {
    pub(super) fn new(faults: Faults, prefix: &str) -> Result<Self, prometheus::Error> {
        let description = Desc::new(
            format!("{prefix}_chaos_label_bomb"),
            "One series for each customer: what must not be done. Only while the fault label-bomb is active."
                .to_owned(),
            vec!["customer".to_owned()],
            Opts::new("", "").const_labels,
        )?;
        Ok(Self {
            faults,
            description,
        })
    }
}

impl Collector for LabelBomb {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(active) = self.faults.active(Fault::LabelBomb) else {
            return Vec::new();
        };
        let settings = active.settings();
        let lasted = settings
            .lifetime()
            .saturating_sub(active.left())
            .as_secs_f64();
        let grown = lasted * settings.count("series-per-second") as f64;
        let series = settings.count("series").min(grown as u64);
        if series == 0 {
            return Vec::new();
        }
        let metric = |customer: u64| {
            let mut label = LabelPair::default();
            label.set_name("customer".to_owned());
            label.set_value(format!("{customer:08}"));
            let mut counter = Counter::default();
            counter.set_value(1.0);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_counter(counter);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.description.fq_name.clone());
        family.set_help(self.description.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric((0..series).map(metric).collect());
        vec![family]
    }
}
