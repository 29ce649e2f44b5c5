//! The learning rate as a function of training progress.

use crate::math::double as math;
use crate::spec::{Schedule, TrainSpec};

/// Learning rate at an optimiser step (from 0), with `steps_per_epoch` steps in an epoch.
///
/// Linear warm-up over `warmup_epochs` from one step's share to the peak, then the schedule over what remains:
/// `cosine` is `peak / 2 * (1 + cos(pi x))` (Loshchilov and Hutter 2017) with x in [0, 1) the share of it that is done.
pub fn learning_rate(spec: &TrainSpec, step: u64, steps_per_epoch: u64) -> f64 {
    let warmup = u64::from(spec.warmup_epochs) * steps_per_epoch;
    let total = u64::from(spec.epochs) * steps_per_epoch;
    if step < warmup {
        return spec.learning_rate * (step + 1) as f64 / warmup as f64;
    }
    let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    let factor = match spec.schedule {
        Schedule::Constant => 1.0,
        Schedule::Step if done < 0.5 => 1.0,
        Schedule::Step if done < 0.75 => 0.1,
        Schedule::Step => 0.01,
        Schedule::Cosine => 0.5 * (1.0 + math::cos(std::f64::consts::PI * done.min(1.0))),
    };
    spec.learning_rate * factor
}

/// Time steps of an epoch (from 0) of training towards `steps` of them: from `start_steps` evenly to all, which the
/// second half of the epochs has.
pub fn time_steps(spec: &TrainSpec, steps: usize, epoch: u32) -> usize {
    if spec.start_steps == 0 || spec.start_steps >= steps {
        return steps;
    }
    let (left, epochs) = ((steps - spec.start_steps) as u64, u64::from(spec.epochs.max(1)));
    let grown = left * 2 * u64::from(epoch) / epochs;
    spec.start_steps + grown.min(left) as usize
}

/// How far the average of the parameters moves towards those after step `step` (from 1): 1 less the decay, which is at
/// most `(1 + t) / (10 + t)`, so that the first values are soon forgotten (as TensorFlow's `ExponentialMovingAverage`
/// has it).
pub fn average_share(decay: f64, step: u64) -> f64 {
    let done = step as f64;
    1.0 - decay.min((1.0 + done) / (10.0 + done))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_steps_by_hand() {
        let grown = |start_steps, epochs| {
            let spec = TrainSpec { start_steps, epochs, ..TrainSpec::default() };
            (0..epochs).map(|epoch| time_steps(&spec, 4, epoch)).collect::<Vec<_>>()
        };
        assert_eq!(grown(1, 12), [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!(grown(2, 5), [2, 2, 3, 4, 4], "two more over two and a half epochs");
        assert_eq!(grown(0, 3), [4; 3]);
        assert_eq!(grown(4, 3), [4; 3]);
        assert_eq!(grown(1, 1), [1], "one epoch has no second half");
    }

    #[test]
    fn the_average_by_hand() {
        assert!((average_share(0.99, 1) - 9.0 / 11.0).abs() < 1e-12);
        assert!((average_share(0.99, 8) - 0.5).abs() < 1e-12);
        assert!((average_share(0.99, 100_000) - 0.01).abs() < 1e-12);
        assert!((average_share(0.4, 8) - 0.6).abs() < 1e-12, "the smaller decay");
    }

    fn rates(schedule: Schedule, warmup_epochs: u32) -> Vec<f64> {
        let spec = TrainSpec { epochs: 4, learning_rate: 1.0, schedule, warmup_epochs, ..TrainSpec::default() };
        (0..8).map(|step| learning_rate(&spec, step, 2)).collect()
    }

    #[test]
    fn courses_by_hand() {
        assert_eq!(rates(Schedule::Constant, 1), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(rates(Schedule::Step, 0), [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]);
        let cosine = rates(Schedule::Cosine, 0);
        assert!((cosine[4] - 0.5).abs() < 1e-12 && cosine[0] == 1.0 && cosine[7] > 0.0);
    }
}
