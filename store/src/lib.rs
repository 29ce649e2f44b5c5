//! Artefacts of bloctrain in object storage: checksummed objects, checkpoints, the spike cache.
