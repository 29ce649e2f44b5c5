//! Every object key of the store, in one place.
//!
//! ```text
//! format.json                                  version of this layout
//! probe.json                                   left by the check for conditional writes
//! state/                                       the coordinator's database
//! runs/<run>/spec.json                         the run as it was asked for, with its data set
//! runs/<run>/block<k>/weights-<d>.safetensors      (d: start of the content's digest)
//! runs/<run>/block<k>/optimizer-<d>.safetensors
//! runs/<run>/block<k>/detector-<d>.safetensors
//! runs/<run>/records/<split>-<shard>-<d>.json
//! cache/<digest of what determines the content>.arrow, .json
//! models/<run>/...                             the model package
//! ```

use crate::Digest;
use crate::task::Split;

/// Version of the store's layout and formats. A store of a newer version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Where the store says which version of the layout it has.
pub const FORMAT: &str = "format.json";

/// Object that the check for conditional writes leaves behind.
pub const PROBE: &str = "probe.json";

/// Root of the coordinator's database.
pub const STATE: &str = "state";

/// Root of the spike cache.
pub const CACHE: &str = "cache";

/// Root of the objects of all runs.
pub const RUNS: &str = "runs";

/// Root of one run's objects.
pub fn run(run: &str) -> String {
    format!("runs/{run}")
}

/// The run's specification and data set.
pub fn spec(run: &str) -> String {
    format!("runs/{run}/spec.json")
}

/// What a checkpoint object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointPart {
    /// Parameters and running statistics.
    Weights,
    /// Optimiser state.
    Optimizer,
}

/// A checkpoint object, named by its content: making it again writes the same object.
pub fn checkpoint(run: &str, block: u32, part: CheckpointPart, content: Digest) -> String {
    let part = match part {
        CheckpointPart::Weights => "weights",
        CheckpointPart::Optimizer => "optimizer",
    };
    format!("runs/{run}/block{block}/{part}-{}.safetensors", content.short(16))
}

/// A trained detector.
pub fn detector(run: &str, block: u32, content: Digest) -> String {
    format!("runs/{run}/block{block}/detector-{}.safetensors", content.short(16))
}

/// Records of one evaluated shard.
pub fn records(run: &str, split: Split, shard: u32, content: Digest) -> String {
    format!("runs/{run}/records/{}-{shard}-{}.json", split.name(), content.short(16))
}

/// A cached shard of spikes; `identity` is the digest of everything that determines it.
pub fn cache_data(identity: Digest) -> String {
    format!("{CACHE}/{identity}.arrow")
}

/// The manifest of a cached shard, written after the data: where it exists, the data is complete.
pub fn cache_manifest(identity: Digest) -> String {
    format!("{CACHE}/{identity}.json")
}

/// A file of a run's model package.
pub fn model(run: &str, file: &str) -> String {
    format!("models/{run}/{file}")
}
