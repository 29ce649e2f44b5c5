//! Images as the network sees them: as values of their bytes, augmented by (seed, sample, view).

use bloctrain_data::{Dataset, SplitKind};
use bloctrain_infer::Levels;
use bloctrain_shared::ImageShape;
use bloctrain_shared::seed;
use bloctrain_shared::spec::Augment;
use rand::RngExt;

/// Zero pixels added on every side before a crop.
const PADDING: i64 = 4;

/// The draws of one (sample, view). Each kind has its own, whether or not the others are asked for.
struct Draws {
    shift: (i64, i64),
    flip: bool,
    alternating_flip: bool,
    square: (usize, usize),
}

impl Draws {
    fn new(dataset: &Dataset, seed: u64, sample: usize, view: u32) -> Self {
        let parts = [sample as u64, view.into()];
        let mut crop = seed::rng(seed, "augment-crop", &parts);
        let begins_mirrored: bool = seed::rng(seed, "augment-alternating-flip", &[sample as u64]).random();
        let mut cutout = seed::rng(seed, "augment-cutout", &parts);
        Self {
            shift: (crop.random_range(-PADDING..=PADDING), crop.random_range(-PADDING..=PADDING)),
            flip: seed::rng(seed, "augment-flip", &parts).random(),
            alternating_flip: begins_mirrored ^ (view % 2 == 1),
            square: (cutout.random_range(0..dataset.shape.height), cutout.random_range(0..dataset.shape.width)),
        }
    }
}

/// Writes the values of one image, channels first, into `out`.
///
/// With augmentations the result depends on (seed, sample, view) alone. What a crop brings in is black; a cutout leaves the
/// mean in a square around a random centre, with a side of a quarter of the image's height.
#[expect(clippy::too_many_arguments, reason = "what is drawn is named by its coordinates")]
pub fn write_sample(
    dataset: &Dataset,
    levels: &Levels,
    split: SplitKind,
    sample: usize,
    augment: &[Augment],
    seed: u64,
    view: u32,
    out: &mut [f32],
) {
    levels.write(dataset.split(split).image(sample), out);
    if augment.is_empty() {
        return;
    }
    let draws = Draws::new(dataset, seed, sample, view);
    let has = |kind: Augment| augment.contains(&kind);
    if has(Augment::Crop) {
        shift(dataset.shape, levels, draws.shift, out);
    }
    if (has(Augment::Flip) && draws.flip) ^ (has(Augment::AlternatingFlip) && draws.alternating_flip) {
        out.chunks_mut(dataset.shape.width).for_each(<[f32]>::reverse);
    }
    if has(Augment::Cutout) {
        cut(dataset.shape, levels, draws.square, out);
    }
}

/// Moves the image by (dy, dx); what comes in from outside is black.
fn shift(shape: ImageShape, levels: &Levels, (dy, dx): (i64, i64), out: &mut [f32]) {
    let source = out.to_vec();
    let (height, width) = (shape.height as i64, shape.width as i64);
    for channel in 0..shape.channels {
        let black = levels.black(channel);
        let start = channel * shape.area();
        for y in 0..height {
            for x in 0..width {
                let (from_y, from_x) = (y + dy, x + dx);
                let inside = (0..height).contains(&from_y) && (0..width).contains(&from_x);
                let value = if inside { source[start + (from_y * width + from_x) as usize] } else { black };
                out[start + (y * width + x) as usize] = value;
            }
        }
    }
}

fn cut(shape: ImageShape, levels: &Levels, (y, x): (usize, usize), out: &mut [f32]) {
    let half = (shape.height / 8).max(1);
    let rows = y.saturating_sub(half)..(y + half).min(shape.height);
    let columns = x.saturating_sub(half)..(x + half).min(shape.width);
    for channel in 0..shape.channels {
        for row in rows.clone() {
            let start = channel * shape.area() + row * shape.width;
            out[start + columns.start..start + columns.end].fill(levels.mean(channel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_data::Split;

    fn dataset() -> Dataset {
        let shape = ImageShape::new(1, 16, 16);
        let split = || Split::new(vec![0, 1], (0..512).map(|i| (i % 255) as u8 + 1).collect(), 256);
        Dataset::new("d", vec!["a".into(), "b".into()], shape, split(), split())
    }

    fn sample(augment: &[Augment], view: u32) -> Vec<f32> {
        let mut out = vec![0.0; 256];
        let dataset = dataset();
        write_sample(&dataset, &Levels::normalised(&dataset.mean, &dataset.std), SplitKind::Train, 1, augment, 5, view, &mut out);
        out
    }

    #[test]
    fn views_are_their_own_and_repeatable() {
        let all = [Augment::Crop, Augment::Flip, Augment::Cutout];
        assert_eq!(sample(&all, 3), sample(&all, 3));
        assert!((1..6).any(|view| sample(&all, view) != sample(&all, 0)));
        assert_eq!(sample(&[], 0), sample(&[], 1));
    }

    #[test]
    fn a_flip_mirrors_rows_and_a_cutout_zeroes_a_square() {
        let plain = sample(&[], 0);
        let flipped = (0..20).map(|view| sample(&[Augment::Flip], view)).find(|image| *image != plain).expect("one of 20 flips");
        assert!(plain.chunks(16).zip(flipped.chunks(16)).all(|(a, b)| a.iter().eq(b.iter().rev())));
        let zeros = sample(&[Augment::Cutout], 0).iter().filter(|value| **value == 0.0).count();
        assert!((4..=16).contains(&zeros), "{zeros}");
    }

    #[test]
    fn alternating_flips_take_turns() {
        let view = |view| sample(&[Augment::AlternatingFlip], view);
        assert!(view(0) != view(1) && view(0) == view(2) && view(1) == view(3));
        assert!([view(0), view(1)].contains(&sample(&[], 0)));
    }

    #[test]
    fn a_crop_moves_the_image() {
        let (plain, cropped) = (sample(&[], 0), sample(&[Augment::Crop], 2));
        let draws = Draws::new(&dataset(), 5, 1, 2);
        let at = |y: i64, x: i64| (y * 16 + x) as usize;
        assert_eq!(cropped[at(8, 8)], plain[at(8 + draws.shift.0, 8 + draws.shift.1)]);
    }
}
