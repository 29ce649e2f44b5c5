//! One step of an optimiser.

/// One step of an optimiser, with everything that depends on the step's number worked out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepRule {
    /// `g += decay p`, `v = momentum v + g`, `p -= rate v` (PyTorch's form).
    Sgd {
        /// Share of the velocity that stays.
        momentum: f32,
        /// Weight decay.
        decay: f32,
        /// Learning rate.
        rate: f32,
    },
    /// `p *= keep`, `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `p -= rate m / (sqrt(v share) + epsilon)`.
    Adamw {
        /// Decay rates of both moments.
        betas: [f32; 2],
        /// `1 - rate * decay`.
        keep: f32,
        /// Learning rate over the first moment's share, `1 - b1^step`.
        rate: f32,
        /// The inverse of the second moment's share, `1 / (1 - b2^step)`.
        share: f32,
        /// Added to the root.
        epsilon: f32,
    },
}
