//! Logs: one JSON object a line on stderr, each with the program's name.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext,
        format::{Format, FormatEvent, Json, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Sends the logs of this process to stderr. `RUST_LOG` (`info`, or `info,sidecar=debug`) filters them, `info` unless set.
///
/// A second call changes nothing, so tests may call it freely.
pub fn init(service: &'static str) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, misread) = filter(&wanted);
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonFields::default())
        .event_format(Named { service, inner: Format::default().json().flatten_event(true) })
        .with_writer(std::io::stderr);
    let first = tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok();
    if first && misread {
        tracing::warn!(RUST_LOG = wanted, "not a filter, level info is used");
    }
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
    use std::{
        io,
        sync::{Arc, Mutex},
    };

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
            .event_format(Named { service: "test", inner: Format::default().json().flatten_event(true) })
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
    fn filters_by_level_and_target() {
        assert!(!filter("").1);
        let (targets, misread) = filter("warn,sidecar=debug");
        assert!(!misread);
        assert!(targets.would_enable("sidecar", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("other", &tracing::Level::INFO));
        assert!(filter("a=b=c").1);
    }
}
