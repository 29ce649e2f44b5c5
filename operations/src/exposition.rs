//! Samples in the text form that Prometheus reads (OpenMetrics 1.0).

use crate::metric::{Kind, Metric, Sample};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// Media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text of some samples; metrics without any are left out.
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
}
