//! Every object key of the store, in one place.
//!
//! ```text
//! format.json                                  version of this layout, and which store it is
//! probe.json                                   left by the check for conditional writes
//! process.lock                                 in a folder: locked by the one process that works in it by itself
//! state/                                       the coordinator's database
//! runs/<run>/spec-<d>.json                     the run as it was asked for, with its data set (d: start of the digest)
//! runs/<run>/work-<d>.json                     a task's work that is too long for a message
//! runs/<run>/block<k>/weights-<d>.safetensors
//! runs/<run>/block<k>/optimizer-<d>.safetensors
//! runs/<run>/block<k>/detector-<d>.safetensors
//! runs/<run>/block<k>/scores-<shard>-<d>.json  how sure the block is of the samples of a shard
//! runs/<run>/block<k>/selection-<d>.json       the samples that train the next block
//! runs/<run>/records/<split>-<shard>-<d>.json
//! cache/<digest of what determines the content>.arrow, .json
//! models/<run>/...                             the model package
//! models/<run>/history.jsonl, .csv             a line for every epoch of every block, current while the run goes on
//! data/<digest of the data set>/manifest.json  a data set that was submitted to a fleet
//! data/<digest>/<split>-<part>-<d>.safetensors
//! leader/<opening>.json                        address and heartbeat of a coordinator
//! turn/<opening>.json                          which of those that stand by follows that coordinator
//! ```

use crate::Digest;
use crate::split::Split;

/// Version of model packages. One of a newer version is refused.
pub const FORMAT_VERSION: u32 = 3;

/// Version of the store's layout and of the coordinator's state in it. A store of a newer version is refused.
pub const STORE_VERSION: u32 = 4;

/// What a worker says of its store where there is none at its address.
pub const NO_STORE: &str = "none";

/// Where the store says which version of the layout it has.
pub const FORMAT: &str = "format.json";

/// Object that the check for conditional writes leaves behind.
pub const PROBE: &str = "probe.json";

/// File of a folder that one process at a time has locked, and that says which.
pub const PROCESS: &str = "process.lock";

/// Root of the coordinator's database.
pub const STATE: &str = "state";

/// Root of the spike cache.
pub const CACHE: &str = "cache";

/// Root of the objects of all runs.
pub const RUNS: &str = "runs";

/// Root of the data sets that were submitted.
pub const DATA: &str = "data";

/// Root of the model packages.
pub const MODELS: &str = "models";

/// Root of the coordinators' published addresses.
pub const LEADERS: &str = "leader";

/// The published address of a coordinator, by the number of its opening of the state: the highest is the active one,
/// and an older coordinator never writes over a newer one's.
pub fn leader(opening: u64) -> String {
    format!("{LEADERS}/{opening:020}.json")
}

/// Root of the claims to be the next coordinator.
pub const TURNS: &str = "turn";

/// The claim to follow the coordinator of an opening; 0 is nobody.
pub fn turn(opening: u64) -> String {
    format!("{TURNS}/{opening:020}.json")
}

/// The number of an opening in the key of an address.
pub fn opening_of(key: &str) -> Option<u64> {
    key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

/// The manifest of a stored data set, written after its parts: where it exists, the data are complete.
pub fn data_manifest(dataset: Digest) -> String {
    format!("{DATA}/{dataset}/manifest.json")
}

/// A part of a stored data set, named by its content: programs that cut the data otherwise write other objects.
pub fn data_part(dataset: Digest, split: &str, part: usize, content: Digest) -> String {
    format!("{DATA}/{dataset}/{split}-{part:05}-{}.safetensors", content.short(16))
}

/// The parts of a key that came from outside; `None` when they are no plain names.
fn plain(key: &str) -> Option<Vec<&str>> {
    let is_plain = |part: &&str| {
        let dots = part.bytes().all(|byte| byte == b'.');
        !dots && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let parts: Vec<&str> = key.split('/').collect();
    (key.len() <= 256 && parts.iter().all(is_plain)).then_some(parts)
}

/// Whether a key that came from outside lies below a run's own prefix, where its tasks may write; in a block's folder,
/// when a block is named.
pub fn is_output_of(run: &str, block: Option<u32>, key: &str) -> bool {
    let own = |folder: &str| block.is_none_or(|block| folder == format!("block{block}"));
    plain(key).is_some_and(|parts| matches!(parts.as_slice(), ["runs", of, folder, _] if *of == run && own(folder)))
}

/// Whether a key that came from outside is one of the spike cache.
pub fn is_cached(key: &str) -> bool {
    let is_data = |file: &str| file.strip_suffix(".arrow").is_some_and(|identity| !identity.is_empty());
    plain(key).is_some_and(|parts| matches!(parts.as_slice(), [CACHE, file] if is_data(file)))
}

/// Root of one run's objects.
pub fn run(run: &str) -> String {
    format!("runs/{run}")
}

/// The run's specification and data set. It is named by its content, because the same run may be submitted again with
/// its data at another place: a coordinator that was replaced, and wakes up with a submission, writes over nothing.
pub fn spec(run: &str, content: Digest) -> String {
    format!("runs/{run}/spec-{}.json", content.short(16))
}

/// A task's work that is too long for a message.
pub fn work(run: &str, content: Digest) -> String {
    format!("runs/{run}/work-{}.json", content.short(16))
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

/// How sure a block is of the training samples of a shard.
pub fn scores(run: &str, block: u32, shard: u32, content: Digest) -> String {
    format!("runs/{run}/block{block}/scores-{shard}-{}.json", content.short(16))
}

/// The training samples of the next block.
pub fn selection(run: &str, block: u32, content: Digest) -> String {
    format!("runs/{run}/block{block}/selection-{}.json", content.short(16))
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

/// File of a model package that says what the network is; it is written last.
pub const MODEL_MANIFEST: &str = "model.json";

/// File of a model package with the parameters.
pub const MODEL_TENSORS: &str = "model.safetensors";

/// File of a model package with test images of every exit; packages of older programs have none.
pub const MODEL_SAMPLES: &str = "samples.json";

/// Files that every model package has, the manifest last.
pub const MODEL_FILES: [&str; 5] = [MODEL_TENSORS, "summary.json", "curve.json", "curve.svg", MODEL_MANIFEST];

/// File beside a model package with the course of training, one JSON object a line.
pub const HISTORY: &str = "history.jsonl";

/// The same as a table.
pub const HISTORY_TABLE: &str = "history.csv";

/// A file of a run's model package.
pub fn model(run: &str, file: &str) -> String {
    format!("{MODELS}/{run}/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_stay_below_their_run() {
        let digest = Digest::of(b"x");
        let weights = checkpoint("r1", 2, CheckpointPart::Weights, digest);
        assert!(is_output_of("r1", None, &weights) && is_output_of("r1", Some(2), &weights));
        assert!(!is_output_of("r1", Some(1), &weights) && !is_output_of("r2", None, &weights));
        assert!(is_output_of("r1", Some(1), &detector("r1", 1, digest)));
        assert!(is_output_of("r1", None, &records("r1", Split::Test, 3, digest)));
        assert!(
            is_cached(&cache_data(digest)) && !is_cached(&weights) && !is_output_of("r1", None, &cache_data(digest))
        );
        let foreign = [
            "runs/r2/block1/weights-0.safetensors",
            "runs/r1/../r2/x",
            "runs/r1/./x",
            "state/manifest/0",
            "format.json",
            "cache/../state",
            "cache/a/b.arrow",
            "cache/.arrow",
            "cache/a.json",
            "/cache/a.arrow",
            "s3://bucket/cache/a.arrow",
            "cache\\a.arrow",
            "cache/a%2fb.arrow",
            "runs/r1",
            "runs/r1//x",
            "",
            "models/r1/model.json",
            "runs/r1/block1/\0",
        ];
        for key in foreign {
            assert!(!is_output_of("r1", None, key) && !is_cached(key), "{key}");
        }
        assert!(!is_cached(&format!("cache/{}.arrow", "a".repeat(300))));
    }
}
