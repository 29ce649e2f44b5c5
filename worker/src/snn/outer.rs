//! The outer optimiser of data-parallel rounds, as in DiLoCo (Douillard et al. 2023, arXiv 2311.08105).
//!
//! The outer gradient is the mean over the replicas of start - end. All sums are in f32, on the host, in the order of
//! the replicas, so the result has the same bits wherever it is computed.

/// SGD with Nesterov momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outer {
    /// Its learning rate.
    pub rate: f32,
    /// Its momentum; 0 is plain averaging at a rate of 1.
    pub momentum: f32,
}

impl Outer {
    /// One step: `v = momentum v + g`, `x = x - rate (g + momentum v)`, with x the parameters at the start of the round
    /// and g the outer gradient. All of one length.
    pub fn step(&self, parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32]) {
        for ((x, v), g) in parameters.iter_mut().zip(velocity).zip(gradient) {
            *v = self.momentum * *v + g;
            *x -= self.rate * (g + self.momentum * *v);
        }
    }
}

/// The mean of vectors of one length that are added one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    sum: Vec<f32>,
    count: u32,
}

impl Mean {
    /// No vectors yet, of some length.
    pub fn new(length: usize) -> Self {
        Self { sum: vec![0.0; length], count: 0 }
    }

    /// Adds one.
    pub fn add(&mut self, values: impl Iterator<Item = f32>) {
        self.sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.count += 1;
    }

    /// The mean; zeros without vectors.
    pub fn mean(self) -> Vec<f32> {
        let count = self.count.max(1) as f32;
        self.sum.into_iter().map(|sum| sum / count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outer_steps_by_hand() {
        let outer = Outer { rate: 0.5, momentum: 0.5 };
        let (mut x, mut v) = ([1.0_f32, -2.0], [0.0_f32, 0.0]);
        let gradient = |x: [f32; 2], ends: [[f32; 2]; 2]| {
            let mut mean = Mean::new(2);
            ends.iter().for_each(|end| mean.add(x.iter().zip(end).map(|(start, end)| start - end)));
            mean.mean()
        };
        // start - end is (1, -1) and (0, -3): g = (0.5, -2), v = g, x - 0.5 (g + 0.5 v) = (1 - 0.375, -2 + 1.5).
        let g = gradient(x, [[0.0, -1.0], [1.0, 1.0]]);
        assert_eq!(g, [0.5, -2.0]);
        outer.step(&mut x, &mut v, &g);
        assert_eq!((x, v), ([0.625, -0.5], [0.5, -2.0]));
        // g = (0.25, 0): v = (0.5, -1), x - 0.5 (g + 0.5 v) = (0.625 - 0.25, -0.5 + 0.25).
        let g = gradient(x, [[0.375, -0.5], [0.375, -0.5]]);
        outer.step(&mut x, &mut v, &g);
        assert_eq!((x, v), ([0.375, -0.25], [0.5, -1.0]));
    }

    #[test]
    fn without_momentum_at_a_rate_of_one_the_step_is_the_mean() {
        let (mut x, mut v) = ([8.0_f32], [0.0_f32]);
        Outer { rate: 1.0, momentum: 0.0 }.step(&mut x, &mut v, &[8.0 - 3.0]);
        assert_eq!(x, [3.0]);
    }
}
