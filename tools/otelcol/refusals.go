package main

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// countRefusals is the Elasticsearch exporter with one metric more: the documents that were refused for good, by reason
// (otelcol_elasticsearch_docs_refused_total). Its own metric does not tell a line that was read twice and stored once
// (version_conflict_engine_exception: nothing is lost) from a line that will not be found. Its log does.
func countRefusals(plain exporter.Factory) exporter.Factory {
	return exporter.NewFactory(plain.Type(), plain.CreateDefaultConfig, exporter.WithLogs(
		func(ctx context.Context, set exporter.Settings, config component.Config) (exporter.Logs, error) {
			count, err := set.MeterProvider.Meter("three-pillars/otelcol").Int64Counter(
				"otelcol.elasticsearch.docs.refused",
				metric.WithDescription("Documents that Elasticsearch refused for good, by its reason."),
				metric.WithUnit("1"),
			)
			if err != nil {
				return nil, err
			}
			set.Logger = set.Logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
				return refusals{core, count}
			}))
			return plain.CreateLogs(ctx, set, config)
		}, plain.LogsStability()))
}

// refusals is a log that counts what it says of refused documents.
type refusals struct {
	zapcore.Core
	count metric.Int64Counter
}

func (r refusals) With(fields []zapcore.Field) zapcore.Core {
	return refusals{r.Core.With(fields), r.count}
}

func (r refusals) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if r.Enabled(entry.Level) {
		return checked.AddCore(entry, r)
	}
	return checked
}

func (r refusals) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	if entry.Message == "failed to index document" {
		for _, field := range fields {
			if field.Key == "error.type" {
				r.count.Add(context.Background(), 1, metric.WithAttributes(attribute.String(field.Key, field.String)))
			}
		}
	}
	// Like entries are counted all, and logged as often as the log allows.
	if checked := r.Core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
	return nil
}
