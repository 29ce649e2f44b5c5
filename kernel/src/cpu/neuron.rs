//! Neurons that stand alone, as those of a classifier: a layer without a norm, whose lanes are any sixteen neurons.

use super::norm_neuron::{Drive, Output, Sums, Tile, backward, forward};
use super::simd::PAD;
use bloctrain_shared::neuron::NeuronRule;
use std::borrow::Cow;

const ZEROS: [f32; PAD] = [0.0; PAD];
const ONES: [f32; PAD] = [1.0; PAD];

/// Neurons that are driven by `x [T, M]`.
struct Neurons<'a> {
    /// `[T, M]`, with zeros behind each step up to whole vectors.
    drive: Cow<'a, [f32]>,
    tile: Tile<'a>,
    sites: usize,
}

impl<'a> Neurons<'a> {
    fn new(x: &'a [f32], steps: usize, leak: f32, rule: NeuronRule) -> Self {
        assert!(steps > 0 && x.len().is_multiple_of(steps), "not the same neurons at every step");
        let sites = x.len() / steps;
        let positions = sites.div_ceil(PAD);
        let tile = Tile { steps, positions, width: PAD, shift: &ZEROS, leak, rule };
        Self { drive: padded(x, sites), tile, sites }
    }

    fn drives(&self) -> [Drive<'_>; 1] {
        [Drive { y: &self.drive, constant: false, scale: &ONES, mean: &ZEROS }]
    }
}

/// Rows of so many values with zeros behind each, up to whole vectors.
fn padded(x: &[f32], sites: usize) -> Cow<'_, [f32]> {
    if sites.is_multiple_of(PAD) {
        return Cow::Borrowed(x);
    }
    let width = sites.next_multiple_of(PAD);
    let mut rows = vec![0.0; x.len() / sites * width];
    rows.chunks_mut(width).zip(x.chunks(sites)).for_each(|(to, from)| to[..sites].copy_from_slice(from));
    Cow::Owned(rows)
}

/// Spikes `[T, M]`, zeros and ones, of neurons driven by `x [T, M]`; membranes start at 0.
///
/// # Panics
/// When `x` is not `steps` rows.
pub fn spikes(x: &[f32], steps: usize, leak: f32, rule: NeuronRule) -> Vec<f32> {
    let neurons = Neurons::new(x, steps, leak, rule);
    let mut words = vec![0; steps * neurons.tile.positions];
    let output = Output { words: &mut words, words_per_position: 1, word: 0 };
    forward(&neurons.tile, &neurons.drives(), 0..neurons.tile.positions, output);
    let bit = |word: &u64, lane: usize| f32::from(u8::from(word >> lane & 1 == 1));
    let of_step = |words: &[u64]| {
        let lanes = words.iter().flat_map(|word| (0..PAD).map(move |lane| bit(word, lane)));
        lanes.take(neurons.sites).collect::<Vec<f32>>()
    };
    words.chunks(neurons.tile.positions.max(1)).flat_map(of_step).collect()
}

/// Gradients of the drive `[T, M]` and of the leak from `grad [T, M]` of the spikes, by back-propagation through time
/// with the rule's surrogate.
///
/// # Panics
/// When `x` is not `steps` rows, or `grad` is of another length.
pub fn grads(x: &[f32], grad: &[f32], steps: usize, leak: f32, rule: NeuronRule) -> (Vec<f32>, f32) {
    assert_eq!(x.len(), grad.len(), "a gradient of another shape");
    let neurons = Neurons::new(x, steps, leak, rule);
    let mut of_drive = padded(grad, neurons.sites).into_owned();
    let (mut drive, mut centred, mut leaks) = (ZEROS, ZEROS, ZEROS);
    let mut sums = Sums { drive: &mut drive, centred: vec![&mut centred], leak: &mut leaks };
    backward(&neurons.tile, &neurons.drives(), &mut of_drive, &mut sums, &mut vec![0.0; steps * PAD]);
    let row = neurons.tile.positions * PAD;
    if row != neurons.sites {
        of_drive = of_drive.chunks(row).flat_map(|row| &row[..neurons.sites]).copied().collect();
    }
    (of_drive, leaks.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_shared::neuron::{NeuronSpec, Reset, Surrogate};

    #[test]
    fn neurons_by_hand() {
        let spec = NeuronSpec {
            reset: Reset::Subtract,
            surrogate: Surrogate::Rectangle,
            surrogate_width: 0.5,
            ..NeuronSpec::default()
        };
        let rule = NeuronRule::new(&spec);
        // Two neurons over two steps, threshold 1, leak 1/2: membranes 0.75 and 1.25, then 0.375 + 1 and 0.125 + 0.25.
        let x = [0.75, 1.25, 1.0, 0.25];
        assert_eq!(spikes(&x, 2, 0.5, rule), [0.0, 1.0, 1.0, 0.0]);
        // Slopes are 1 within 1/2 of the threshold: at 0.75, 1.25 and 1.375, not at 0.375.
        let (drive, leak) = grads(&x, &[1.0, 2.0, 4.0, 8.0], 2, 0.5, rule);
        assert_eq!(drive, [1.0 + 0.5 * 4.0, 2.0, 4.0, 0.0]);
        assert_eq!(leak, 4.0 * 0.75, "the second step's gradient times the membrane after the first");
    }

    #[test]
    fn any_number_of_neurons() {
        let rule = NeuronRule::new(&NeuronSpec::default());
        for sites in [1, 15, 16, 17, 40] {
            let x: Vec<f32> = (0..3 * sites).map(|at| (at * 37 % 101) as f32 / 50.0 - 0.4).collect();
            let grad: Vec<f32> = (0..3 * sites).map(|at| (at * 53 % 97) as f32 / 97.0 - 0.5).collect();
            let (found, (drive, _)) = (spikes(&x, 3, 0.75, rule), grads(&x, &grad, 3, 0.75, rule));
            assert!(found.len() == x.len() && drive.len() == x.len());
            for site in 0..sites {
                let own = |values: &[f32]| -> Vec<f32> { values[site..].iter().step_by(sites).copied().collect() };
                assert_eq!(own(&found), spikes(&own(&x), 3, 0.75, rule));
                assert_eq!(own(&drive), grads(&own(&x), &own(&grad), 3, 0.75, rule).0);
            }
        }
        assert!(spikes(&[], 3, 0.75, rule).is_empty() && grads(&[], &[], 3, 0.75, rule).0.is_empty());
    }
}
