//! From a finished span to the collector.

use std::sync::Arc;

use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, ParentBasedSampler, Sampler, SdkTracerProvider,
    TracerProviderBuilder,
};
use opentelemetry_semantic_conventions::resource::{
    HOST_NAME, PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION,
};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::Options;
use crate::sabotage::Sabotage;
use crate::settings::{Propagator, Sampling, Settings};
use crate::span_accounting::{CountedExporter, CountedProcessor, SpanAccounting};

/// Crates whose spans and events, beside those of OpenTelemetry, would be about the export of spans.
const EXPORT_MACHINERY: [&str; 5] = ["reqwest", "hyper", "hyper_util", "h2", "tower"];

/// What produces this telemetry: the program's word, the machine's, then the environment's, which wins.
pub(crate) fn resource(options: &Options, settings: &Settings) -> Resource {
    let environment = settings
        .resource
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new(SERVICE_NAME, options.service_name),
            KeyValue::new(SERVICE_VERSION, options.service_version),
            KeyValue::new(SERVICE_INSTANCE_ID, uuid::Uuid::new_v4().to_string()),
            KeyValue::new(PROCESS_PID, i64::from(std::process::id())),
        ])
        .with_attributes(host_name().map(|name| KeyValue::new(HOST_NAME, name)))
        .with_attributes(environment)
        .build()
}

/// Read from a file of Linux; elsewhere the attribute is left out.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The provider the environment asks for: none if traces are disabled, without an exporter if that is `none`
/// (spans then still have ids, which logs and other services see).
pub(crate) fn provider(
    settings: &Settings,
    resource: Resource,
    accounting: &Arc<SpanAccounting>,
    sabotage: &Sabotage,
) -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    if settings.disabled {
        return Ok(None);
    }
    let mut builder =
        with_sampler(SdkTracerProvider::builder(), settings.sampling).with_resource(resource);
    if settings.export {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(&settings.endpoint)
            .with_timeout(settings.export_timeout)
            .build()?;
        let exporter = CountedExporter {
            inner: exporter,
            accounting: accounting.clone(),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(settings.queue_size)
            .with_max_export_batch_size(settings.batch_size)
            .with_scheduled_delay(settings.schedule_delay)
            .build();
        let batches = BatchSpanProcessor::new(exporter, config);
        builder = builder.with_span_processor(CountedProcessor {
            inner: batches,
            accounting: accounting.clone(),
            sabotage: sabotage.clone(),
        });
    }
    Ok(Some(builder.build()))
}

fn with_sampler(builder: TracerProviderBuilder, sampling: Sampling) -> TracerProviderBuilder {
    let root = Sampler::TraceIdRatioBased(sampling.ratio);
    if sampling.parent_based {
        builder.with_sampler(ParentBasedSampler::new(root))
    } else {
        builder.with_sampler(root)
    }
}

pub(crate) fn propagator(propagators: &[Propagator]) -> TextMapCompositePropagator {
    let propagators =
        propagators
            .iter()
            .map(|propagator| -> Box<dyn TextMapPropagator + Send + Sync> {
                match propagator {
                    Propagator::TraceContext => Box::new(TraceContextPropagator::new()),
                    Propagator::Baggage => Box::new(BaggagePropagator::new()),
                }
            });
    TextMapCompositePropagator::new(propagators.collect())
}

/// Turns `tracing` spans into OpenTelemetry ones, with nothing added: attributes follow the semantic conventions
/// only if they are exactly what the program records.
pub(crate) fn layer<S>(
    provider: &SdkTracerProvider,
    options: &Options,
) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let scope = InstrumentationScope::builder(options.service_name)
        .with_version(options.service_version)
        .build();
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_level(false)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(FilterFn::new(is_traced).with_max_level_hint(LevelFilter::INFO))
}

/// Spans from INFO up; of the events only trouble, as the log has the others.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    let least = if metadata.is_span() {
        Level::INFO
    } else {
        Level::WARN
    };
    let library = metadata.target().split("::").next().unwrap_or_default();
    let exports = library.starts_with("opentelemetry") || EXPORT_MACHINERY.contains(&library);
    *metadata.level() <= least && !exports
}
