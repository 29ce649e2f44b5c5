//! Batches of a block's input: encoded images for the first block, cached spikes for the others.
//!
//! Which samples exist, and in which order, is known from the data set alone; a cached shard must list exactly the
//! samples that its place says, or it counts as damaged.

use super::io::{Io, fatal, lost};
use super::prepared::Prepared;
use crate::data::augment::Mix;
use crate::kernel::{BodyInput, SpikingBackend};
use crate::snn::encode::{body_input, samples};
use crate::snn::loss::Mixed;
use bloctrain_data::{Dataset, SplitKind};
use bloctrain_infer::Encoder;
use bloctrain_kernel::spikes::Spikes;
use bloctrain_shared::hard_input::Selection;
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::ARITHMETIC_VERSION;
use bloctrain_shared::spec::{Augment, RunSpec};
use bloctrain_shared::task::{CachedShard, Failure, ObjectRef, Source, Split};
use bloctrain_store::cache::SpikeShard;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Reads batches of one block's input for one split.
pub(super) struct Reader<'a> {
    prepared: &'a Prepared,
    spec: &'a RunSpec,
    io: &'a Io,
    split: Split,
    shards: Vec<Vec<u32>>,
    classes: LabelMap,
    cached: Option<BTreeMap<(u32, u32), ObjectRef>>,
    fresh: Option<&'a dyn Compute>,
    /// Whether images are mixed with others.
    mixes: bool,
    encoder: Encoder,
}

/// What computes a block's input from images.
trait Compute: Sync {
    /// Spikes of the block before for samples of a reader's split, in a view.
    fn spikes(&self, reader: &Reader<'_>, ids: &[u32], view: u32) -> Spikes;
}

/// Frozen blocks, first to last, on a device.
pub(super) struct Chain<B: SpikingBackend> {
    blocks: Vec<B::Frozen>,
    device: B::Device,
}

impl<B: SpikingBackend> Chain<B> {
    pub(super) fn new(blocks: Vec<B::Frozen>, device: B::Device) -> Self {
        Self { blocks, device }
    }
}

impl<B: SpikingBackend> Compute for Chain<B> {
    fn spikes(&self, reader: &Reader<'_>, ids: &[u32], view: u32) -> Spikes {
        let run = |input, block| {
            let (emitted, _) = B::run_frozen(block, input, false);
            BodyInput::Spikes(emitted.into_spikes(ids.len()))
        };
        match self.blocks.iter().fold(reader.image_input::<B>(ids, view, &self.device), run) {
            BodyInput::Spikes(spikes) => spikes,
            BodyInput::Image(_) => unreachable!("there is a block before"),
        }
    }
}

/// The view that an epoch trains on: one that no block has seen where views are fresh, else one of those that are
/// cached; the first block sees another in every epoch.
pub(super) fn view(spec: &RunSpec, source: &Source, block: u32, epoch: u32) -> u32 {
    match source {
        Source::Images if spec.data.views > 0 => epoch,
        Source::Cache(_) => epoch % if spec.data.augment.is_empty() { 1 } else { spec.data.views.max(1) },
        Source::Images | Source::Fresh(_) => (block - 1).saturating_mul(spec.train.epochs).saturating_add(epoch),
    }
}

/// A view that no block trains on, by which a block's samples are judged: counted down from the last one.
pub(super) fn unseen_view(block: u32) -> u32 {
    u32::MAX - block
}

/// A stored selection among the samples of some shards.
///
/// # Errors
/// [`Failure::InputLost`] when it is damaged, or of other samples.
pub(super) fn selection(io: &Io, object: &ObjectRef, shards: &[Vec<u32>]) -> Result<Selection, Failure> {
    let read: Selection = serde_json::from_slice(&io.get(object)?).map_err(|error| lost(object, error.to_string()))?;
    read.check(shards).map_err(|error| lost(object, error.to_string()))?;
    Ok(read)
}

/// One batch, ready for the block.
pub(super) struct InputBatch<B: SpikingBackend> {
    /// Input of the block.
    pub(super) input: BodyInput<B>,
    /// Dense labels of the block, one per sample.
    pub(super) labels: Vec<usize>,
    /// What was mixed into each of them, as far as the block knows its class; empty where nothing is mixed.
    pub(super) mixed: Vec<Option<Mixed>>,
    /// Sample indices in the split's images.
    pub(super) ids: Vec<u32>,
}

impl<'a> Reader<'a> {
    /// A reader over the samples of some classes.
    pub(super) fn new(
        prepared: &'a Prepared,
        spec: &'a RunSpec,
        io: &'a Io,
        split: Split,
        classes: &LabelMap,
        source: &Source,
    ) -> Self {
        let cached = match source {
            Source::Cache(shards) => Some(index_of(shards, split)),
            Source::Fresh(fresh) if split != Split::Train => Some(index_of(&fresh.validation, split)),
            Source::Images | Source::Fresh(_) => None,
        };
        let shards = prepared.shards_of(split, classes);
        let Dataset { shape, mean, std, .. } = &prepared.dataset;
        let encoder = Encoder::new(spec, *shape, mean, std);
        let mixes = split == Split::Train && spec.data.augment.contains(&Augment::CutMix);
        Self { prepared, spec, io, split, shards, classes: classes.clone(), cached, fresh: None, mixes, encoder }
    }

    /// The same, whose input is computed where the source says so.
    pub(super) fn through<B: SpikingBackend>(mut self, chain: Option<&'a Chain<B>>) -> Self {
        self.fresh = chain.map(|chain| chain as &dyn Compute);
        self
    }

    /// The same, of the samples that the block before selected, where it did.
    ///
    /// # Errors
    /// [`Failure::InputLost`] when the selection is damaged, or of other samples.
    pub(super) fn among(mut self, io: &Io, selected: Option<&ObjectRef>) -> Result<Self, Failure> {
        if let Some(object) = selected {
            self.shards = selection(io, object, &self.shards)?.shards;
        }
        Ok(self)
    }

    /// The same, with every image by itself.
    pub(super) fn unmixed(mut self) -> Self {
        self.mixes = false;
        self
    }

    /// Sample indices of every shard.
    pub(super) fn shards(&self) -> &[Vec<u32>] {
        &self.shards
    }

    /// Number of samples in each shard.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.shards.iter().map(Vec::len).collect()
    }

    /// Sample index at a position.
    pub(super) fn id(&self, (shard, index): (usize, usize)) -> u32 {
        self.shards[shard][index]
    }

    /// Every position of one shard, in order.
    pub(super) fn positions_of(&self, shard: u32) -> Vec<(usize, usize)> {
        let shard = shard as usize;
        (0..self.shards.get(shard).map_or(0, Vec::len)).map(|index| (shard, index)).collect()
    }

    /// Reads the samples at some (shard, index) positions, in a view.
    ///
    /// # Errors
    /// [`Failure::InputLost`] for a damaged cached shard, naming it.
    pub(super) fn batch<B: SpikingBackend>(
        &self,
        positions: &[(usize, usize)],
        view: u32,
        device: &B::Device,
    ) -> Result<InputBatch<B>, Failure> {
        let ids: Vec<u32> = positions.iter().map(|&(shard, index)| self.shards[shard][index]).collect();
        let samples = self.prepared.samples(self.split);
        let dense = |id: &u32| self.classes.dense(samples.label(*id as usize)).map(usize::from);
        let labels = ids
            .iter()
            .map(dense)
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(|| fatal("a sample of an unknown class was selected"))?;
        let input = match self.fresh {
            _ if self.cached.is_some() => BodyInput::Spikes(self.cached_input(positions, view)?),
            Some(chain) => BodyInput::Spikes(chain.spikes(self, &ids, view)),
            None => self.image_input(&ids, view, device),
        };
        let mixed = if self.mixes { ids.iter().map(|&id| self.mixed(id, view)).collect() } else { Vec::new() };
        Ok(InputBatch { input, labels, mixed, ids })
    }

    fn mix(&self, id: u32, view: u32) -> Option<Mix> {
        let (shape, training) = (self.prepared.dataset.shape, self.prepared.shards(Split::Train));
        Mix::drawn(shape, training, self.spec.run.seed, id, view)
    }

    /// What a rectangle of an image of an unknown class stands for is nothing: the sample keeps its label then.
    fn mixed(&self, id: u32, view: u32) -> Option<Mixed> {
        let mix = self.mix(id, view)?;
        let class = self.classes.dense(self.prepared.samples(self.split).label(mix.partner as usize))?;
        Some(Mixed { class: usize::from(class), share: mix.share })
    }

    fn image_input<B: SpikingBackend>(&self, ids: &[u32], view: u32, device: &B::Device) -> BodyInput<B> {
        let dataset = &self.prepared.dataset;
        let of = (dataset, self.samples_kind());
        let mut values = samples((&self.encoder, self.spec), of, ids, self.split == Split::Train, view);
        if self.mixes {
            let size = dataset.shape.len();
            values.values.par_chunks_mut(size).zip(ids).for_each(|(image, &id)| {
                if let Some(mix) = self.mix(id, view) {
                    let partner = [mix.partner];
                    let other = samples((&self.encoder, self.spec), of, &partner, true, view);
                    mix.paste(dataset.shape, &other.values, image);
                }
            });
        }
        body_input(self.encoder.input(values), dataset.shape, device)
    }

    fn samples_kind(&self) -> SplitKind {
        match self.split {
            Split::Train | Split::Validation => SplitKind::Train,
            Split::Test => SplitKind::Test,
        }
    }

    fn cached_input(&self, positions: &[(usize, usize)], view: u32) -> Result<Spikes, Failure> {
        let mut shards: BTreeMap<usize, Arc<SpikeShard>> = BTreeMap::new();
        for &(shard, _) in positions {
            if let Entry::Vacant(place) = shards.entry(shard) {
                place.insert(self.shard(view, shard)?);
            }
        }
        let Some(dims) = shards.values().next().map(|shard| shard.meta.dims) else {
            return Err(fatal("an empty batch was asked for"));
        };
        if let Some((shard, _)) = shards.iter().find(|(_, shard)| shard.meta.dims != dims) {
            let problem = "its spikes have other dimensions than those of the other shards".to_owned();
            let object = u32::try_from(*shard).ok().and_then(|shard| self.cached.as_ref()?.get(&(view, shard)));
            return Err(object.map_or_else(
                || fatal(&problem),
                |object| Failure::InputLost { key: object.key.clone(), problem: problem.clone(), content: true },
            ));
        }
        let size = dims.packed_bytes();
        let sample = |&(shard, index): &(usize, usize)| &shards[&shard].packed[index * size..(index + 1) * size];
        let samples: Vec<&[u8]> = positions.iter().map(sample).collect();
        Ok(Spikes::from_packed(&samples, dims))
    }

    fn shard(&self, view: u32, shard: usize) -> Result<Arc<SpikeShard>, Failure> {
        let place = (view, u32::try_from(shard).map_err(fatal)?);
        let object = self.cached.as_ref().and_then(|cached| cached.get(&place));
        let object = object.ok_or_else(|| {
            fatal(format!("the task names no cached shard {shard} of view {view} of the {} split", self.split.name()))
        })?;
        let read = self.io.shard(object)?;
        let lost = |problem: &str| {
            Err(Failure::InputLost { key: object.key.clone(), problem: problem.to_owned(), content: true })
        };
        if read.ids != self.shards[shard] {
            return lost("it lists other samples than its place in the data set");
        }
        let meta = &read.meta;
        let place = (meta.split, meta.view, meta.dataset, meta.seed, meta.arithmetic);
        if place != (self.split, view, self.prepared.dataset.digest, self.spec.run.seed, ARITHMETIC_VERSION) {
            return lost("it was made for another place, of other data or by another version");
        }
        Ok(read)
    }
}

fn index_of(shards: &[CachedShard], split: Split) -> BTreeMap<(u32, u32), ObjectRef> {
    shards
        .iter()
        .filter(|shard| shard.split == split)
        .map(|shard| ((shard.view, shard.shard), shard.object.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snn::param::to_host;
    use bloctrain_data::Split as Samples;
    use bloctrain_shared::ImageShape;
    use bloctrain_shared::spec::DataSpec;
    use bloctrain_store::Artefacts;
    use burn_flex::Flex;

    const AREA: usize = 64;

    /// Images of three classes, each of one brightness.
    fn dataset() -> Dataset {
        let split = |samples: u16| {
            let labels: Vec<u16> = (0..samples).map(|sample| sample % 3).collect();
            let pixels = labels.iter().flat_map(|&label| [10 + 60 * label as u8; AREA]).collect();
            Samples::new(labels, pixels, AREA)
        };
        let classes = ["dark", "grey", "light"].map(str::to_owned).to_vec();
        Dataset::new("three", classes, ImageShape::new(1, 8, 8), split(60), split(6))
    }

    fn values(input: BodyInput<Flex>) -> Vec<f32> {
        match input {
            BodyInput::Image(values) => to_host(values),
            BodyInput::Spikes(_) => panic!("images are encoded directly"),
        }
    }

    #[test]
    fn labels_are_mixed_as_the_images_are() {
        let spec =
            RunSpec { data: DataSpec { augment: vec![Augment::CutMix], ..DataSpec::default() }, ..RunSpec::default() };
        let prepared = Prepared::new(dataset(), &spec);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let io = Io::new(Artefacts::open("memory://").expect("memory"), runtime.handle().clone());
        let (all, two) = (LabelMap::all(3), LabelMap::new(vec![0, 1]));
        let reader = |classes: &LabelMap| Reader::new(&prepared, &spec, &io, Split::Train, classes, &Source::Images);
        let batch = |reader: &Reader<'_>, view| {
            reader.batch::<Flex>(&reader.positions_of(0), view, &Default::default()).expect("images")
        };
        let plain = batch(&reader(&all).unmixed(), 0);
        assert!(plain.mixed.is_empty());
        let of_class =
            |class: usize| plain.labels.iter().position(|&label| label == class).expect("a sample of it") * AREA;
        let plain_values = values(plain.input);
        let brightness: Vec<f32> = (0..3).map(|class| plain_values[of_class(class)]).collect();
        let (mut pasted, mut unknown) = (0, 0);
        for view in 0..6 {
            let seen = batch(&reader(&all), view);
            for ((image, &label), mixed) in values(seen.input).chunks(AREA).zip(&seen.labels).zip(&seen.mixed) {
                let foreign: Vec<f32> = image.iter().copied().filter(|value| *value != brightness[label]).collect();
                let expected = mixed.filter(|mixed| mixed.class != label);
                let count = expected.map_or(0.0, |mixed| mixed.share * AREA as f32);
                assert_eq!(foreign.len() as f32, count, "{mixed:?}");
                assert!(foreign.iter().all(|value| expected.is_some_and(|mixed| brightness[mixed.class] == *value)));
                pasted += usize::from(count > 0.0);
            }
            let known = batch(&reader(&two), view);
            for ((image, &label), mixed) in values(known.input).chunks(AREA).zip(&known.labels).zip(&known.mixed) {
                let light = image.contains(&brightness[2]);
                assert!(!light || mixed.is_none(), "the block does not know that class: the label stays");
                assert!(label < 2 && mixed.is_none_or(|mixed| mixed.class < 2));
                unknown += usize::from(light);
            }
        }
        assert!(pasted > 50 && unknown > 20, "{pasted} of other classes, {unknown} of an unknown one");
    }

    #[test]
    fn a_view_that_judges_is_none_that_is_trained_on() {
        let mut spec = RunSpec::default();
        spec.data.augment = vec![Augment::Crop];
        for views in [0, 4, 1024] {
            spec.data.views = views;
            let trained: Vec<u32> = (1..=5)
                .flat_map(|block| (0..=spec.train.epochs).map(move |epoch| (block, epoch)))
                .map(|(block, epoch)| view(&spec, &Source::Images, block, epoch))
                .chain(0..views)
                .collect();
            assert!((1..=5).all(|block| !trained.contains(&unseen_view(block))));
        }
    }
}
