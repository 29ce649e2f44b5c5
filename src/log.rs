//! The log in JSON with the name of the pod in every line.

use std::fmt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A form of JSON objects, with a first field of its own.
pub(crate) struct InPod<F> {
    form: F,
    /// `"pod":"NAME",`, or nothing.
    field: String,
}

impl<F> InPod<F> {
    pub(crate) fn new(form: F, pod: Option<&str>) -> Self {
        let field = pod.map(|pod| format!("\"pod\":{},", serde_json::Value::from(pod))).unwrap_or_default();
        Self { form, field }
    }
}

impl<F, S, N> FormatEvent<S, N> for InPod<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.form.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, "{{{}{rest}", self.field),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_has_the_pod() {
        for (pod, expected) in [(Some("w-\"1\""), serde_json::json!("w-\"1\"")), (None, serde_json::Value::Null)] {
            let lines = Lines::default();
            let form = tracing_subscriber::fmt::format().json().flatten_event(true).with_target(false);
            let writer = lines.clone();
            let log = tracing_subscriber::fmt()
                .json()
                .event_format(InPod::new(form, pod))
                .with_writer(move || writer.clone());
            tracing::subscriber::with_default(log.finish(), || tracing::info!(run = "r1", "a task begins"));
            let text = String::from_utf8(lines.0.lock().expect("one thread").clone()).expect("text");
            let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
            assert_eq!(
                (&line["pod"], &line["run"], &line["message"]),
                (&expected, &"r1".into(), &"a task begins".into())
            );
        }
    }
}
