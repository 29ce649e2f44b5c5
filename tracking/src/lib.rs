//! The course of runs for the tools that people have.
//!
//! What is told to a tool follows from the run's [history](bloctrain_shared::history), which has every epoch once.
//! Whoever tells the same tool again adds only what is new, so a run that was killed and resumed is told without gaps
//! or doubles.
//!
//! - [`tensorboard`] writes event files,
//! - [`mlflow`] speaks MLflow's REST API.
//!
//! Apart from it, [`otlp`] posts the coordinator's spans to where OpenTelemetry's are taken.

pub mod mlflow;
pub mod otlp;
pub mod tensorboard;

use bloctrain_shared::history::HistoryLine;
use bloctrain_shared::spec::RunSpec;
use bloctrain_shared::spec::field::FIELDS;
use bloctrain_shared::summary::Summary;
use bloctrain_shared::view::RunState;

/// A run, as far as it is.
#[derive(Debug, Clone)]
pub struct Course {
    /// Its id.
    pub run: String,
    /// What was asked.
    pub spec: RunSpec,
    /// Name of its data set.
    pub dataset: String,
    /// When it was first submitted, Unix milliseconds.
    pub created_ms: u64,
    /// Where it stands.
    pub state: RunState,
    /// The course of its training.
    pub lines: Vec<HistoryLine>,
    /// Its figures, once completed.
    pub summary: Option<Summary>,
}

/// A scalar of an epoch.
struct Scalar {
    name: &'static str,
    value: f64,
}

impl Course {
    /// The name that people gave it, or its id.
    fn title(&self) -> &str {
        self.spec.run.name.as_deref().unwrap_or(&self.run)
    }

    /// Epochs that are done, each with the time of its end in Unix milliseconds: training time after the run's start,
    /// since the history has no clock.
    fn epochs(&self) -> Vec<(u64, &HistoryLine)> {
        let mut seconds = 0.0;
        let timed = self.lines.iter().filter(|line| !line.partial).map(|line| {
            seconds += line.seconds;
            (self.created_ms + (1_000.0 * seconds) as u64, line)
        });
        timed.collect()
    }

    /// Fields of the specification that something reads, by name.
    fn fields(&self) -> Vec<(String, String)> {
        let counts = FIELDS.iter().filter(|field| field.is_read(&self.spec));
        let value = |path: &str| Some((path.to_owned(), self.spec.value(path)?.to_string()));
        counts.filter_map(|field| value(field.path)).collect()
    }

    /// Figures of a completed run.
    fn results(&self) -> Vec<Scalar> {
        let Some(Summary { accuracy, inference, wall_seconds, cache, .. }) = &self.summary else { return Vec::new() };
        let of = |name, value| Scalar { name, value };
        vec![
            of("test_accuracy", accuracy.test),
            of("validation_accuracy", accuracy.validation),
            of("compute_efficiency", inference.compute_efficiency),
            of("synops_per_sample", inference.synops_per_sample),
            of("macs_per_sample", inference.macs_per_sample),
            of("parameter_overhead", inference.parameter_overhead),
            of("wall_seconds", *wall_seconds),
            of("cache_bytes", cache.bytes as f64),
        ]
    }
}

/// The scalars of an epoch.
fn scalars(line: &HistoryLine) -> Vec<Scalar> {
    let of = |name, value| Some(Scalar { name, value });
    let all = [
        of("loss", line.loss),
        of("accuracy", line.accuracy),
        line.validation_accuracy.and_then(|accuracy| of("validation_accuracy", accuracy)),
        of("firing_rate", line.firing_rate),
        of("learning_rate", line.learning_rate),
        of("images_per_second", line.images_per_second),
        of("seconds", line.seconds),
        of("waiting_seconds", line.waiting_seconds),
        line.peak_bytes.and_then(|bytes| of("peak_bytes", bytes as f64)),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run with two epochs of its first block done and one of the second under way.
    pub(crate) fn course() -> Course {
        let line = |block: u32, epoch: u32, partial: bool| HistoryLine {
            block,
            stage: bloctrain_shared::stage::Stage::Train,
            epoch,
            partial,
            round: epoch,
            samples: 10,
            loss: 1.0 / f64::from(epoch),
            accuracy: 0.5,
            validation_accuracy: Some(0.25),
            firing_rate: 0.1,
            firing_rates: Some(vec![0.1, 0.2]),
            learning_rate: 0.01,
            images_per_second: 5.0,
            seconds: 2.0,
            waiting_seconds: 0.5,
            peak_bytes: None,
        };
        Course {
            run: "r1".into(),
            spec: RunSpec::default(),
            dataset: "d".into(),
            created_ms: 1_700_000_000_000,
            state: RunState::Running,
            lines: vec![line(1, 1, false), line(1, 2, false), line(2, 1, true)],
            summary: None,
        }
    }

    #[test]
    fn epochs_that_are_not_done_are_not_told() {
        let course = course();
        let epochs: Vec<(u64, u32)> = course.epochs().iter().map(|(at, line)| (*at, line.epoch)).collect();
        assert_eq!(epochs, [(1_700_000_002_000, 1), (1_700_000_004_000, 2)]);
        let fields = course.fields();
        assert!(fields.iter().any(|(name, value)| name == "train.batch" && !value.is_empty()), "{fields:?}");
        assert!(!fields.iter().any(|(name, _)| name == "train.outer_momentum"), "what nothing reads says nothing");
    }
}
