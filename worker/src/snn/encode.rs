//! Samples of data sets and encoded images as a backend takes them; the encoder itself is that of inference.

use crate::data::augment;
use crate::kernel::{BodyInput, SpikingBackend};
use bloctrain_data::{Dataset, SplitKind};
use bloctrain_infer::{Encoder, Input, Values};
use bloctrain_shared::ImageShape;
use bloctrain_shared::spec::RunSpec;
use burn_tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Samples of a data set in a view; those of its training images augmented by the specification, where `augmented`.
pub fn samples<'a>(
    (encoder, spec): (&Encoder, &RunSpec),
    (dataset, kind): (&Dataset, SplitKind),
    ids: &'a [u32],
    augmented: bool,
    view: u32,
) -> Values<'a> {
    let augment = augmented.then_some((spec, view));
    let size = dataset.shape.len();
    let mut values = vec![0.0_f32; ids.len() * size];
    values.par_chunks_mut(size).zip(ids).for_each(|(image, &id)| {
        augment::write_sample(dataset, encoder.levels(), kind, id as usize, augment, image);
    });
    Values { values, ids, view, test: kind == SplitKind::Test }
}

/// Encoded images of a shape on a device.
pub fn body_input<B: SpikingBackend>(input: Input, shape: ImageShape, device: &B::Device) -> BodyInput<B> {
    match input {
        Input::Spikes(spikes) => BodyInput::Spikes(spikes),
        Input::Images { samples, values } => {
            let sizes = [samples, shape.channels, shape.height, shape.width];
            BodyInput::Image(Tensor::from_data(TensorData::new(values, sizes), device))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_data::Split;
    use bloctrain_shared::spec::{Augment, EncodingKind};

    #[test]
    fn samples_of_a_data_set_have_the_codes_of_their_bytes() {
        let shape = ImageShape::new(1, 16, 16);
        let split = || Split::new(vec![0, 1], (0..512).map(|index| (index % 256) as u8).collect(), 256);
        let dataset = Dataset::new("d", vec!["a".into(), "b".into()], shape, split(), split());
        for kind in [EncodingKind::Poisson, EncodingKind::Latency] {
            let mut spec = RunSpec::default();
            spec.encoding.kind = kind;
            let encoder = Encoder::new(&spec, shape, &dataset.mean, &dataset.std);
            let bytes = [dataset.test.image(1)];
            let alone = encoder.images(&bytes, &[1]);
            let sample = samples((&encoder, &spec), (&dataset, SplitKind::Test), &[1], false, 0);
            assert!(sample.values.iter().zip(bytes[0]).all(|(&value, &byte)| value == f32::from(byte) / 255.0));
            assert_eq!(encoder.input(sample), encoder.input(alone), "{kind:?}: every grey level");
            spec.data.augment = vec![Augment::Crop, Augment::Flip, Augment::Cutout];
            let augmented = samples((&encoder, &spec), (&dataset, SplitKind::Train), &[1], true, 3);
            let grey =
                |value: &f32| *value == dataset.mean[0] || (0..=255_u8).any(|byte| *value == f32::from(byte) / 255.0);
            assert!(
                augmented.values.iter().all(grey),
                "{kind:?}: pixels, black from outside, and the mean where it is cut out"
            );
        }
    }
}
