//! Where every sampled span went.
//!
//! The SDK's batch processor drops spans when its queue is full and says so in one warning; nothing counts
//! them, and nothing counts failed exports. So it is wrapped on both sides: [`CountedProcessor`] lets in no
//! more spans than the queue holds, and [`CountedExporter`] settles each batch that comes out. Between the
//! two nothing can be lost, hence `sampled = exported + failed + dropped + queued`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use crate::sabotage::Sabotage;

/// Counts of spans since the start of the process, consistent with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    /// Ended with the sampled flag set.
    pub(crate) sampled: u64,
    /// Accepted by the collector.
    pub(crate) exported: u64,
    /// Given up after the exporter's retries.
    pub(crate) failed: u64,
    /// Never handed to the exporter: the queue was full, or the process ended first.
    pub(crate) dropped: u64,
    /// Waiting, or being exported.
    pub(crate) queued: u64,
}

impl SpanCounts {
    /// Sampled and certain never to be exported.
    pub(crate) fn lost(self) -> u64 {
        self.failed + self.dropped
    }
}

#[derive(Debug)]
pub(crate) struct SpanAccounting {
    capacity: u64,
    in_flight: AtomicU64,
    sampled: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    closed: OnceLock<SpanCounts>,
}

impl SpanAccounting {
    /// `capacity`: the places in the batch processor's queue.
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity as u64,
            in_flight: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            closed: OnceLock::new(),
        })
    }

    /// Counts a span that ended; false if there is no place for it.
    fn admit(&self) -> bool {
        self.sampled.fetch_add(1, Ordering::Relaxed);
        let admitted = self.in_flight.fetch_add(1, Ordering::AcqRel) < self.capacity;
        if !admitted {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            self.dropped.fetch_add(1, Ordering::Release);
        }
        admitted
    }

    /// Counts a span that ended and is lost.
    fn drop_one(&self) {
        self.sampled.fetch_add(1, Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Release);
    }

    fn settle(&self, spans: u64, exported: bool) {
        let counter = if exported {
            &self.exported
        } else {
            &self.failed
        };
        counter.fetch_add(spans, Ordering::Release);
        self.in_flight.fetch_sub(spans, Ordering::AcqRel);
    }

    pub(crate) fn counts(&self) -> SpanCounts {
        if let Some(counts) = self.closed.get() {
            return *counts;
        }
        // A span is sampled before it is settled. Read the other way round, none is settled that is not yet
        // counted as sampled, and the equation holds while spans keep flowing.
        let exported = self.exported.load(Ordering::Acquire);
        let failed = self.failed.load(Ordering::Acquire);
        let dropped = self.dropped.load(Ordering::Acquire);
        let sampled = self.sampled.load(Ordering::Acquire);
        SpanCounts {
            sampled,
            exported,
            failed,
            dropped,
            queued: sampled - exported - failed - dropped,
        }
    }

    /// Ends the accounting: what is queued now counts as dropped, and later events change nothing, even if
    /// a slow collector should accept a batch after all.
    pub(crate) fn close(&self) -> SpanCounts {
        let counts = self.counts();
        let counts = SpanCounts {
            dropped: counts.dropped + counts.queued,
            queued: 0,
            ..counts
        };
        *self.closed.get_or_init(|| counts)
    }
}

/// Hands no more spans to `inner` than fit in its queue, and counts the others.
#[derive(Debug)]
pub(crate) struct CountedProcessor<P> {
    pub(crate) inner: P,
    pub(crate) accounting: Arc<SpanAccounting>,
    pub(crate) sabotage: Sabotage,
}

impl<P: SpanProcessor> SpanProcessor for CountedProcessor<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.sabotage.loses(&span) {
            self.accounting.drop_one();
        } else if self.accounting.admit() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Settles the spans of each batch that `inner` has done with.
#[derive(Debug)]
pub(crate) struct CountedExporter<E> {
    pub(crate) inner: E,
    pub(crate) accounting: Arc<SpanAccounting>,
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.accounting.settle(spans, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::sync::{Condvar, Mutex};

    use opentelemetry::KeyValue;
    use opentelemetry::trace::{
        Link, Span as _, SpanKind, TraceId, TraceState, Tracer as _, TracerProvider as _,
    };
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult,
        SdkTracerProvider, ShouldSample,
    };

    use super::*;

    /// An exporter that reports each batch, waits at a gate and then succeeds or fails as told.
    #[derive(Debug, Clone, Default)]
    struct Gate(Arc<GateState>);

    #[derive(Debug, Default)]
    struct GateState {
        open: Mutex<bool>,
        changed: Condvar,
        refuse: AtomicBool,
    }

    #[derive(Debug)]
    struct GatedExporter {
        gate: Gate,
        batches: Mutex<mpsc::Sender<usize>>,
    }

    impl Gate {
        fn open(&self) {
            *self
                .0
                .open
                .lock()
                .expect("no test panics with the gate locked") = true;
            self.0.changed.notify_all();
        }
    }

    impl SpanExporter for GatedExporter {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            // The receiver may be gone when the test has seen enough.
            let _ = self.batches.lock().expect("not poisoned").send(batch.len());
            let open = self.gate.0.open.lock().expect("not poisoned");
            drop(
                self.gate
                    .0
                    .changed
                    .wait_while(open, |open| !*open)
                    .expect("not poisoned"),
            );
            match self.gate.0.refuse.load(Ordering::SeqCst) {
                true => Err(OTelSdkError::InternalFailure("told to".into())),
                false => Ok(()),
            }
        }
    }

    struct Pipeline {
        provider: SdkTracerProvider,
        accounting: Arc<SpanAccounting>,
        sabotage: Sabotage,
        gate: Gate,
        batches: mpsc::Receiver<usize>,
    }

    fn pipeline(queue: usize, batch: usize) -> Pipeline {
        pipeline_sampling(queue, batch, Sampler::AlwaysOn)
    }

    fn pipeline_sampling(
        queue: usize,
        batch: usize,
        sampler: impl ShouldSample + 'static,
    ) -> Pipeline {
        let (sender, batches) = mpsc::channel();
        let gate = Gate::default();
        let accounting = SpanAccounting::new(queue);
        let sabotage = Sabotage::default();
        let exporter = CountedExporter {
            inner: GatedExporter {
                gate: gate.clone(),
                batches: Mutex::new(sender),
            },
            accounting: accounting.clone(),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(queue)
            .with_max_export_batch_size(batch)
            .with_scheduled_delay(Duration::from_secs(3600))
            .build();
        let inner = BatchSpanProcessor::new(exporter, config);
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_span_processor(CountedProcessor {
                inner,
                accounting: accounting.clone(),
                sabotage: sabotage.clone(),
            })
            .build();
        Pipeline {
            provider,
            accounting,
            sabotage,
            gate,
            batches,
        }
    }

    fn end_spans(provider: &SdkTracerProvider, spans: usize) {
        let tracer = provider.tracer("test");
        for _ in 0..spans {
            tracer.start("work").end();
        }
    }

    impl Pipeline {
        fn end_spans(&self, spans: usize) {
            end_spans(&self.provider, spans);
        }

        fn assert_balanced(&self) -> SpanCounts {
            let counts = self.accounting.counts();
            assert_eq!(
                counts.sampled,
                counts.exported + counts.failed + counts.dropped + counts.queued
            );
            assert_eq!(
                counts.queued,
                self.accounting.in_flight.load(Ordering::SeqCst)
            );
            counts
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let pipeline = pipeline(8, 4);
        pipeline.end_spans(4);
        assert_eq!(
            pipeline.batches.recv(),
            Ok(4),
            "the first batch is at the gate"
        );
        pipeline.end_spans(10);
        let counts = pipeline.assert_balanced();
        assert_eq!(
            counts,
            SpanCounts {
                sampled: 14,
                exported: 0,
                failed: 0,
                dropped: 6,
                queued: 8
            }
        );
        pipeline.gate.open();
        pipeline.provider.shutdown().expect("the gate is open");
        let counts = pipeline.assert_balanced();
        assert_eq!(
            counts,
            SpanCounts {
                sampled: 14,
                exported: 8,
                failed: 0,
                dropped: 6,
                queued: 0
            }
        );
    }

    #[test]
    fn refused_batches_count_as_failed_and_free_their_places() {
        let pipeline = pipeline(4, 2);
        pipeline.gate.0.refuse.store(true, Ordering::SeqCst);
        pipeline.gate.open();
        for _ in 0..5 {
            pipeline.end_spans(4);
            // The result tells of the refusal; what counts is that the queue is empty afterwards.
            let _ = pipeline.provider.force_flush();
        }
        let counts = pipeline.assert_balanced();
        assert_eq!(
            counts,
            SpanCounts {
                sampled: 20,
                exported: 0,
                failed: 20,
                dropped: 0,
                queued: 0
            }
        );
    }

    #[test]
    fn closing_turns_queued_into_dropped_for_good() {
        let pipeline = pipeline(8, 4);
        pipeline.end_spans(4);
        assert_eq!(pipeline.batches.recv(), Ok(4));
        pipeline.end_spans(1);
        let closed = pipeline.accounting.close();
        assert_eq!(
            closed,
            SpanCounts {
                sampled: 5,
                exported: 0,
                failed: 0,
                dropped: 5,
                queued: 0
            }
        );
        assert_eq!(closed.lost(), 5);
        pipeline.gate.open();
        pipeline.end_spans(1);
        pipeline.provider.shutdown().expect("the gate is open");
        assert_eq!(
            pipeline.accounting.counts(),
            closed,
            "what comes later changes nothing"
        );
    }

    #[test]
    fn the_equation_holds_under_contention_with_a_tiny_queue() {
        let pipeline = pipeline(1, 1);
        pipeline.gate.open();
        let (provider, accounting) = (&pipeline.provider, &pipeline.accounting);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| end_spans(provider, 2_000)))
                .collect();
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    // Panics on underflow if more were settled than sampled.
                    let counts = accounting.counts();
                    assert_eq!(
                        counts.sampled,
                        counts.exported + counts.failed + counts.dropped + counts.queued
                    );
                }
            });
            for worker in workers {
                worker.join().expect("no worker panics");
            }
            stop.store(true, Ordering::SeqCst);
        });
        pipeline.provider.shutdown().expect("the gate is open");
        let counts = pipeline.assert_balanced();
        assert_eq!(
            (counts.sampled, counts.queued, counts.failed),
            (16_000, 0, 0),
            "a span vanished inside the SDK"
        );
        let received: usize = pipeline.batches.iter().sum();
        assert_eq!(counts.exported, received as u64);
    }

    #[test]
    fn spans_lost_on_purpose_are_dropped_and_counted() {
        let pipeline = pipeline(2048, 512);
        pipeline.gate.open();
        pipeline.sabotage.lose_spans(0.5);
        pipeline.end_spans(1000);
        pipeline.sabotage.lose_spans(0.0);
        let lost = pipeline.assert_balanced().dropped;
        assert!((350..=650).contains(&lost), "{lost} of 1000");
        let tracer = pipeline.provider.tracer("test");
        tracer
            .span_builder("marked")
            .with_attributes([KeyValue::new(crate::SPAN_TO_LOSE, true)])
            .start(&tracer)
            .end();
        pipeline.end_spans(10);
        pipeline.provider.shutdown().expect("the gate is open");
        let counts = pipeline.assert_balanced();
        assert_eq!((counts.dropped, counts.sampled), (lost + 1, 1011));
        assert_eq!(
            pipeline.batches.iter().sum::<usize>() as u64,
            counts.exported
        );
    }

    #[derive(Debug, Clone)]
    struct RecordOnly;

    impl ShouldSample for RecordOnly {
        fn should_sample(
            &self,
            _parent: Option<&Context>,
            _trace: TraceId,
            _name: &str,
            _kind: &SpanKind,
            _attributes: &[KeyValue],
            _links: &[Link],
        ) -> SamplingResult {
            let (attributes, trace_state) = (Vec::new(), TraceState::default());
            SamplingResult {
                decision: SamplingDecision::RecordOnly,
                attributes,
                trace_state,
            }
        }
    }

    #[test]
    fn recorded_but_unsampled_spans_are_neither_counted_nor_exported() {
        let pipeline = pipeline_sampling(8, 4, RecordOnly);
        pipeline.gate.open();
        pipeline.end_spans(3);
        pipeline.provider.shutdown().expect("the gate is open");
        assert_eq!(pipeline.assert_balanced().sampled, 0);
        assert_eq!(pipeline.batches.iter().sum::<usize>(), 0);
    }
}
