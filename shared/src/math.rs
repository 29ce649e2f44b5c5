//! Functions whose last bit the standard library leaves to the platform, by `libm`: the same bits on every processor.
//!
//! Whatever reaches a result takes them from here, as `clippy.toml` asks for.

/// `e^x`.
pub fn exp(x: f32) -> f32 {
    libm::expf(x)
}

/// The natural logarithm.
pub fn ln(x: f32) -> f32 {
    libm::logf(x)
}

/// `1 / (1 + e^-x)`, by an exponential that does not grow without bound.
pub fn sigmoid(x: f32) -> f32 {
    if x >= 0.0 {
        1.0 / (1.0 + exp(-x))
    } else {
        let power = exp(x);
        power / (1.0 + power)
    }
}

/// Probabilities that are proportional to `e^score`.
pub fn softmax(scores: &[f32]) -> Vec<f32> {
    let (powers, sum) = powers(scores);
    powers.into_iter().map(|power| power / sum).collect()
}

/// The logarithm of the sum of `e^score`.
pub fn ln_sum_exp(scores: &[f32]) -> f32 {
    largest(scores) + ln(powers(scores).1)
}

fn largest(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `e^(score - largest)` of every score, and their sum in the order of the scores.
pub fn powers(scores: &[f32]) -> (Vec<f32>, f32) {
    let largest = largest(scores);
    let powers: Vec<f32> = scores.iter().map(|score| exp(score - largest)).collect();
    let sum = powers.iter().sum();
    (powers, sum)
}

/// The same in f64.
pub mod double {
    /// `e^x`.
    pub fn exp(x: f64) -> f64 {
        libm::exp(x)
    }

    /// The natural logarithm.
    pub fn ln(x: f64) -> f64 {
        libm::log(x)
    }

    /// The logarithm to base 10.
    pub fn log10(x: f64) -> f64 {
        libm::log10(x)
    }

    /// `base^exponent`.
    pub fn pow(base: f64, exponent: f64) -> f64 {
        libm::pow(base, exponent)
    }

    /// The cosine.
    pub fn cos(x: f64) -> f64 {
        libm::cos(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        assert_eq!(softmax(&[2.0, 2.0]), [0.5, 0.5]);
        assert_eq!(softmax(&[1000.0, 0.0]), [1.0, 0.0], "no overflow");
        assert_eq!(softmax(&[]), [0.0; 0]);
        assert_eq!((ln_sum_exp(&[7.0]), ln_sum_exp(&[1000.0, 0.0])), (7.0, 1000.0));
        assert_eq!((sigmoid(0.0), sigmoid(200.0), sigmoid(-200.0)), (0.5, 1.0, 0.0));
        assert!((sigmoid(ln(3.0)) - 0.75).abs() < 1e-7);
        assert_eq!((double::pow(0.5, 3.0), double::cos(0.0), double::exp(double::ln(1.0))), (0.125, 1.0, 1.0));
    }

    /// Bits that were written down on x86-64: a build for another processor that has others breaks the promise.
    #[test]
    fn the_last_bit_is_the_same_everywhere() {
        let inputs: Vec<f32> = (1..2000).map(|at| at as f32 * 0.0137).collect();
        let hash = |hash: u64, bits: u64| (hash ^ bits).wrapping_mul(0x100_0000_01b3);
        let single = |f: fn(f32) -> f32| inputs.iter().fold(17, |sum, &x| hash(sum, f(x).to_bits().into()));
        let wide = |f: fn(f64) -> f64| inputs.iter().fold(17, |sum, &x| hash(sum, f(x.into()).to_bits()));
        let found = [single(|x| exp(-x)), single(ln), wide(double::cos), wide(double::exp), wide(double::ln)];
        let written_down =
            ["2956b24dbc62d98a", "f95360a99f0e3226", "a9e41f92909b11e4", "42d8309b63c967ad", "2285beae26e04135"];
        assert_eq!(found.map(|hash| format!("{hash:016x}")), written_down);
    }
}
