//! The learning rate as a function of training progress.

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
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()),
    };
    spec.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

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
