//! Images as the network sees them: as values of their bytes, augmented by (seed, sample, view).

use bloctrain_data::{Dataset, SplitKind};
use bloctrain_infer::Levels;
use bloctrain_shared::ImageShape;
use bloctrain_shared::seed;
use bloctrain_shared::spec::{Augment, RunSpec};
use rand::RngExt;
use std::ops::Range;

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

/// Writes the values of one image, channels first, into `out`, augmented as a specification says for a view.
///
/// With augmentations the result depends on (seed, sample, view) alone; [`Mix`] comes after them. What a crop brings in
/// is black; a cutout leaves the mean.
pub fn write_sample(
    dataset: &Dataset,
    levels: &Levels,
    split: SplitKind,
    sample: usize,
    augment: Option<(&RunSpec, u32)>,
    out: &mut [f32],
) {
    levels.write(dataset.split(split).image(sample), out);
    let Some((spec, view)) = augment.filter(|(spec, _)| !spec.data.augment.is_empty()) else { return };
    let draws = Draws::new(dataset, spec.run.seed, sample, view);
    let has = |kind: Augment| spec.data.augment.contains(&kind);
    if has(Augment::Crop) {
        shift(dataset.shape, levels, draws.shift, out);
    }
    if (has(Augment::Flip) && draws.flip) ^ (has(Augment::AlternatingFlip) && draws.alternating_flip) {
        out.chunks_mut(dataset.shape.width).for_each(<[f32]>::reverse);
    }
    if has(Augment::Cutout) {
        let half = (dataset.shape.height as f64 * spec.data.cutout_size / 2.0) as usize;
        cut(dataset.shape, levels, (draws.square, half.max(1)), out);
    }
}

/// A rectangle of another training image in the place of one's own (CutMix, Yun et al. 2019).
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The other image.
    pub partner: u32,
    /// Rows of the rectangle.
    pub rows: Range<usize>,
    /// Columns of the rectangle.
    pub columns: Range<usize>,
    /// Its share of the image, in (0, 1].
    pub share: f32,
}

impl Mix {
    /// What is mixed into a sample of a view: with probability one half a rectangle of one of the training images,
    /// drawn by (seed, sample, view) alone. Its sides are the image's times `sqrt(1 - l)`, l even in [0, 1), around a
    /// random centre.
    pub fn drawn(shape: ImageShape, training: &[Vec<u32>], seed: u64, sample: u32, view: u32) -> Option<Self> {
        let mut rng = seed::rng(seed, "augment-cutmix", &[sample.into(), view.into()]);
        let samples: usize = training.iter().map(Vec::len).sum();
        if samples == 0 || !rng.random::<bool>() {
            return None;
        }
        let partner = training.iter().flatten().nth(rng.random_range(0..samples)).copied()?;
        let side = (1.0 - rng.random::<f64>()).sqrt();
        let mut range = |length: usize| {
            let (half, centre) = ((length as f64 * side / 2.0) as usize, rng.random_range(0..length));
            centre.saturating_sub(half)..(centre + half).min(length)
        };
        let (rows, columns) = (range(shape.height), range(shape.width));
        let area = rows.len() * columns.len();
        (area > 0).then(|| Self { partner, rows, columns, share: area as f32 / shape.area() as f32 })
    }

    /// Puts the rectangle of `other` into `out`, both channels first.
    pub fn paste(&self, shape: ImageShape, other: &[f32], out: &mut [f32]) {
        for channel in 0..shape.channels {
            for row in self.rows.clone() {
                let start = channel * shape.area() + row * shape.width;
                let own = start + self.columns.start..start + self.columns.end;
                out[own.clone()].copy_from_slice(&other[own]);
            }
        }
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

/// Puts the mean into a square of `2 * half` around a centre; what of it is outside of the image is cut off.
fn cut(shape: ImageShape, levels: &Levels, ((y, x), half): ((usize, usize), usize), out: &mut [f32]) {
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
    use bloctrain_shared::spec::DataSpec;

    fn dataset() -> Dataset {
        let shape = ImageShape::new(1, 16, 16);
        let split = || Split::new(vec![0, 1], (0..512).map(|i| (i % 255) as u8 + 1).collect(), 256);
        Dataset::new("d", vec!["a".into(), "b".into()], shape, split(), split())
    }

    fn sample(augment: &[Augment], view: u32) -> Vec<f32> {
        of_spec(DataSpec { augment: augment.to_vec(), ..DataSpec::default() }, view)
    }

    fn of_spec(data: DataSpec, view: u32) -> Vec<f32> {
        let mut spec = RunSpec { data, ..RunSpec::default() };
        spec.run.seed = 5;
        let (mut out, dataset) = (vec![0.0; 256], dataset());
        let levels = Levels::normalised(&dataset.mean, &dataset.std);
        write_sample(&dataset, &levels, SplitKind::Train, 1, Some((&spec, view)), &mut out);
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
        let flipped =
            (0..20).map(|view| sample(&[Augment::Flip], view)).find(|image| *image != plain).expect("one of 20 flips");
        assert!(plain.chunks(16).zip(flipped.chunks(16)).all(|(a, b)| a.iter().eq(b.iter().rev())));
        let zeros = sample(&[Augment::Cutout], 0).iter().filter(|value| **value == 0.0).count();
        assert!((4..=16).contains(&zeros), "{zeros}");
        let half = DataSpec { augment: vec![Augment::Cutout], cutout_size: 0.5, ..DataSpec::default() };
        let zeros = of_spec(half, 0).iter().filter(|value| **value == 0.0).count();
        assert!((17..=64).contains(&zeros), "8 x 8, less what is outside: {zeros}");
    }

    #[test]
    fn a_rectangle_is_pasted_by_hand() {
        let shape = ImageShape::new(2, 3, 4);
        let mix = Mix { partner: 7, rows: 1..3, columns: 0..2, share: 4.0 / 12.0 };
        let (mut own, other) = (vec![0.0; 24], (1..25).map(|value| value as f32).collect::<Vec<_>>());
        mix.paste(shape, &other, &mut own);
        let expected =
            [0., 0., 0., 0., 5., 6., 0., 0., 9., 10., 0., 0., 0., 0., 0., 0., 17., 18., 0., 0., 21., 22., 0., 0.];
        assert_eq!(own, expected);
    }

    #[test]
    fn what_is_mixed_follows_from_sample_and_view() {
        let (shape, training) = (ImageShape::new(1, 8, 8), [vec![3, 5], vec![11]]);
        let drawn = |sample, view| Mix::drawn(shape, &training, 5, sample, view);
        let all: Vec<Option<Mix>> = (0..400).map(|view| drawn(1, view)).collect();
        assert_eq!(all[17], drawn(1, 17));
        assert!((0..20).any(|view| drawn(1, view) != drawn(2, view)));
        let mixed: Vec<&Mix> = all.iter().flatten().collect();
        assert!((150..=200).contains(&mixed.len()), "half of them, but for rectangles of nothing: {}", mixed.len());
        assert!([3, 5, 11].iter().all(|id| mixed.iter().any(|mix| mix.partner == *id)));
        for mix in &mixed {
            assert!(mix.rows.end <= 8 && mix.columns.end <= 8);
            assert_eq!(mix.share, (mix.rows.len() * mix.columns.len()) as f32 / 64.0);
        }
        let mean = mixed.iter().map(|mix| mix.share).sum::<f32>() / mixed.len() as f32;
        assert!((0.2..0.5).contains(&mean), "rectangles over the edge are cut: {mean}");
        assert_eq!(Mix::drawn(shape, &[], 5, 1, 0), None);
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
