//! Samples in the text forms that Prometheus reads: OpenMetrics 1.0 for whoever asks for it, and the form of before.

use crate::metric::{Kind, Metric, Sample};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt::{self, Write};

/// Media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Media type of the form of before, which tools that do not ask for another one read.
pub const PLAIN_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Whether somebody who takes these media types takes [`MEDIA_TYPE`].
pub fn is_taken(accept: &str) -> bool {
    accept.contains("application/openmetrics-text")
}

/// The text of some samples in the form of before, in which a counter's type and help have its whole name; metrics
/// without any are left out.
pub fn plain(samples: &[Sample]) -> String {
    let mut text = String::new();
    for &metric in crate::metric::TABLE {
        let mut own = samples.iter().filter(|sample| sample.metric == metric).peekable();
        if own.peek().is_some() {
            // Writing into a text does not fail.
            let _ = writeln!(text, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(text, "# TYPE {} {}", metric.name, metric.kind.name());
        }
        for Sample { labels, value, .. } in own {
            let pair = |(name, value): (&&str, &String)| format!("{name}=\"{}\"", escaped(value));
            let pairs: Vec<String> = metric.labels.iter().zip(labels).map(pair).collect();
            let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            let _ = writeln!(text, "{}{labels} {value:?}", metric.name);
        }
    }
    text
}

/// The value of a label between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text of some samples in OpenMetrics; metrics without any are left out.
///
/// # Errors
/// Never: a string takes whatever is written.
pub fn text(samples: Vec<Sample>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Samples(samples)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Samples(Vec<Sample>);

impl Collector for Samples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for &metric in crate::metric::TABLE {
            let own: Vec<&Sample> = self.0.iter().filter(|sample| sample.metric == metric).collect();
            if !own.is_empty() {
                // The form itself puts `_total` at the end of a counter's name.
                let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
                let values = Values { metric, samples: own };
                let encoder = encoder.encode_descriptor(name, metric.help, None, values.metric_type())?;
                values.encode(encoder)?;
            }
        }
        Ok(())
    }
}

/// Samples of one metric.
struct Values<'a> {
    metric: &'static Metric,
    samples: Vec<&'a Sample>,
}

impl EncodeMetric for Values<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for sample in &self.samples {
            let pairs = self.metric.labels.iter().copied().zip(sample.labels.iter().map(String::as_str));
            let labels: Vec<(&str, &str)> = pairs.collect();
            match self.metric.kind {
                Kind::Gauge if labels.is_empty() => encoder.encode_gauge(&sample.value)?,
                Kind::Gauge => encoder.encode_family(&labels)?.encode_gauge(&sample.value)?,
                Kind::Counter if labels.is_empty() => {
                    encoder.encode_counter::<prometheus_client::encoding::NoLabelSet, _, f64>(&sample.value, None)?;
                }
                Kind::Counter => {
                    let mut family = encoder.encode_family(&labels)?;
                    family.encode_counter::<prometheus_client::encoding::NoLabelSet, _, f64>(&sample.value, None)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.metric.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric;

    #[test]
    fn samples_are_written_under_their_names_with_their_labels() {
        let samples = vec![
            metric::TASKS_WAITING.with(&["cuda"], 3.0),
            metric::TASKS_WAITING.with(&["any"], 0.0),
            metric::PERSIST_SECONDS.is(1.5),
            metric::WORKER_TASKS.with(&["train", "done"], 7.0),
            metric::ACTIVE.is(1.0),
        ];
        let text = text(samples).expect("a text");
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "bloctrain_coordinator_active 1.0",
            "bloctrain_tasks_waiting{backend=\"cuda\"} 3.0",
            "bloctrain_tasks_waiting{backend=\"any\"} 0.0",
            "bloctrain_persist_seconds_total 1.5",
            "bloctrain_worker_tasks_total{stage=\"train\",result=\"done\"} 7.0",
        ];
        assert_eq!(values, expected, "in the table's order");
        assert!(text.contains("# TYPE bloctrain_persist_seconds counter\n") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn who_does_not_ask_for_openmetrics_gets_the_form_of_before() {
        let samples = [metric::PERSIST_SECONDS.is(1.5), metric::TASKS_WAITING.with(&["a \"b\"\\\n"], 3.0)];
        let text = plain(&samples);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        let expected = [
            "# TYPE bloctrain_tasks_waiting gauge",
            "bloctrain_tasks_waiting{backend=\"a \\\"b\\\"\\\\\\n\"} 3.0",
            "# TYPE bloctrain_persist_seconds_total counter",
            "bloctrain_persist_seconds_total 1.5",
        ];
        assert_eq!(lines, expected);
        assert!(text.contains("# HELP bloctrain_persist_seconds_total Seconds"), "{text}");
        assert!(is_taken(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
        ));
        assert!(!is_taken("*/*") && !is_taken("text/plain"));
    }
}
