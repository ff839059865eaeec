//! Logs: one JSON object a line on stderr, each with the program's name. Traces, for programs that ask for them.

use std::{fmt, io};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
    registry::Registry,
};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{
    Layer,
    filter::{FilterExt as _, LevelFilter, Targets, filter_fn},
    fmt::{
        FmtContext,
        format::{Format, FormatEvent, Json, JsonFields, Writer},
        writer::BoxMakeWriter,
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

pub mod traces;
mod writer;

/// Writes the last lines and sends the last traces when it is dropped, at the end of the program.
#[must_use = "the last lines are written when this is dropped"]
pub struct Telemetry {
    // Dropped in this order: the end of the traces may have something to say.
    _traces: Option<traces::Ending>,
    _lines: Option<writer::Ending>,
}

/// Sends the logs of this process to stderr. `RUST_LOG` (`info`, or `info,sidecar=debug`) filters them, `info` unless set.
///
/// A second call changes nothing, so tests may call it freely.
pub fn init(service: &'static str) -> Telemetry {
    start(service, false)
}

/// As [`init`], and sends spans of level info to where `OTEL_EXPORTER_OTLP_ENDPOINT` says, if it is set.
pub fn init_with_traces(service: &'static str) -> Telemetry {
    start(service, true)
}

fn start(service: &'static str, with_traces: bool) -> Telemetry {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, misread) = filter(&wanted);
    let (out, ending) = match writer::start(io::stderr()) {
        Ok((lines, ending)) => (BoxMakeWriter::new(lines), Some(ending)),
        Err(_) => (BoxMakeWriter::new(io::stderr), None),
    };
    // Spans are for traces: without them a span is not even made.
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::default())
        .event_format(named(service))
        .with_writer(out)
        .with_filter(filter.and(filter_fn(is_event)));
    let (spans, failed) = if with_traces {
        traces::layer(service).map_or_else(|why| (None, Some(why)), |layer| (layer, None))
    } else {
        (None, None)
    };
    let registry = tracing_subscriber::registry().with(lines);
    let (first, last_spans) = match spans {
        Some((layer, ending)) => {
            let spans = layer.with_filter(LevelFilter::INFO.and(filter_fn(is_span)));
            (registry.with(spans).try_init().is_ok(), Some(ending))
        }
        // Not `with(None)`, which would ask at every span whether somebody wants it.
        None => (registry.try_init().is_ok(), None),
    };
    if first && misread {
        tracing::warn!(RUST_LOG = wanted, "not a filter, level info is used");
    }
    if let Some(why) = failed {
        tracing::warn!(why, "no traces are sent: the OTEL_* variables cannot be used");
    }
    Telemetry { _traces: last_spans, _lines: ending }
}

/// Registers what is to be known about the logs themselves.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(LinesDropped));
}

#[derive(Debug)]
struct LinesDropped;

impl Collector for LinesDropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let count = ConstCounter::new(writer::dropped());
        let help = "Log lines thrown away because stderr was not read fast enough";
        count.encode(encoder.encode_descriptor("log_lines_dropped", help, None, count.metric_type())?)
    }
}

fn is_event(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
}

fn is_span(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
}

fn named(service: &'static str) -> Named {
    let inner = Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
    Named { service, inner }
}

/// The filter that `wanted` asks for, and whether it could not be read.
fn filter(wanted: &str) -> (Targets, bool) {
    let default = || Targets::new().with_default(LevelFilter::INFO);
    if wanted.trim().is_empty() {
        return (default(), false);
    }
    wanted.parse::<Targets>().map_or_else(|_| (default(), true), |targets| (targets, false))
}

/// The JSON format with the program's name put first.
struct Named {
    service: &'static str,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for Named
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> tracing_subscriber::fmt::FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        write!(writer, "{{\"service\":\"{}\",{}", self.service, line.strip_prefix('{').unwrap_or(&line))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_service() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonFields::default())
            .event_format(named("test"))
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::info!(count = 3, "it \"happened\"");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["service"], "test");
        assert_eq!(line["count"], 3);
        assert_eq!(line["message"], "it \"happened\"");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_metric_of_lost_lines_is_a_counter() {
        let mut registry = Registry::with_prefix("agent_ready_test");
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("# TYPE agent_ready_test_log_lines_dropped counter"), "{text}");
        assert!(text.contains("\nagent_ready_test_log_lines_dropped_total "), "{text}");
    }

    #[test]
    fn filters_by_level_and_target() {
        assert!(!filter("").1);
        let (targets, misread) = filter("warn,sidecar=debug");
        assert!(!misread);
        assert!(targets.would_enable("sidecar", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("other", &tracing::Level::INFO));
        assert!(filter("a=b=c").1);
    }
}
