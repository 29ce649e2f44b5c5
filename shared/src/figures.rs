//! What a report says beyond the summary: `figures.json` of a model package.

use crate::compute::Operations;
use crate::exit::{self, ExitRule, Outcome};
use crate::graph::{Graph, GraphError, Node};
use crate::metric::Confusion;
use crate::plan::{ARITHMETIC_VERSION, DatasetInfo};
use crate::record::{BlockRecords, Records};
use crate::spec::RunSpec;
use serde::{Deserialize, Serialize};

/// Figures of a finished run, for its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Version of the program that finished the run.
    pub program: String,
    /// Version of its arithmetic.
    pub arithmetic: u32,
    /// What the worker that finished it computes on.
    pub backend: String,
    /// Test samples.
    pub samples: u64,
    /// Answers to the test data with early exits, by true class.
    pub confusion: Confusion,
    /// Mean computation per test input with early exits.
    pub compute: Operations,
    /// That of the full network without exits: all blocks and the last classifier.
    pub full_compute: Operations,
    /// Expected calibration error on the test data, in [0, 1].
    pub calibration_error: f64,
    /// One entry per trained block.
    pub blocks: Vec<BlockFigures>,
    /// Multiply-accumulates of one pass through the same layers without spikes: analogue values, once instead of in
    /// every time step.
    pub dense_macs: f64,
    /// Parameters of all blocks, classifiers and detectors.
    pub parameters: usize,
    /// Those of the same network trained end to end.
    pub end_to_end_parameters: usize,
}

/// Figures of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFigures {
    /// Its validation, when it was frozen, over its own classes.
    pub validation: Confusion,
    /// Mean computation of its own layers for a test input that reaches it.
    pub body: Operations,
    /// That of its classifier and detector.
    pub exit: Operations,
    /// Parameters of its detector.
    pub detector_parameters: usize,
}

/// What is known of a run when it is finished.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Version of the program.
    pub program: &'a str,
    /// What it computes on.
    pub backend: &'a str,
    /// What was asked.
    pub spec: &'a RunSpec,
    /// On which data.
    pub dataset: &'a DatasetInfo,
    /// The exits.
    pub rule: &'a ExitRule,
    /// What the network said about the test data.
    pub test: &'a Records,
    /// What that comes to.
    pub outcome: &'a Outcome,
}

impl Figures {
    /// The figures of a run; of every block its validation and the parameters of its detector.
    ///
    /// # Errors
    /// When its network cannot be built.
    pub fn new(known: Known<'_>, blocks: Vec<(Confusion, usize)>, parameters: usize) -> Result<Self, GraphError> {
        let Known { program, backend, spec, dataset, rule, test, outcome } = known;
        let (dense_macs, end_to_end_parameters) = end_to_end(spec, dataset)?;
        let block = |((validation, detector_parameters), records): ((Confusion, usize), &BlockRecords)| {
            let mean = |synops: &[f64]| synops.iter().sum::<f64>() / synops.len().max(1) as f64;
            BlockFigures {
                validation,
                body: Operations { macs: records.body_macs, synops: mean(&records.body_synops) },
                exit: Operations { macs: records.exit_macs, synops: mean(&records.exit_synops) },
                detector_parameters,
            }
        };
        Ok(Self {
            program: program.to_owned(),
            arithmetic: ARITHMETIC_VERSION,
            backend: backend.to_owned(),
            samples: test.len() as u64,
            confusion: exit::confusion(test, rule, dataset.classes.len()),
            compute: outcome.compute,
            full_compute: outcome.full_compute,
            calibration_error: outcome.calibration_error,
            blocks: blocks.into_iter().zip(&test.blocks).map(block).collect(),
            dense_macs,
            parameters,
            end_to_end_parameters,
        })
    }
}

/// Multiply-accumulates of one pass through the network as one block, each layer on analogue values, and its
/// parameters.
fn end_to_end(spec: &RunSpec, dataset: &DatasetInfo) -> Result<(f64, usize), GraphError> {
    let mut spec = spec.clone();
    spec.run.end_to_end = true;
    let graph = Graph::new(&spec, dataset.shape)?;
    let (mut macs, mut parameters) = (0.0, 0);
    for block in &graph.blocks {
        let head = block.classifier(dataset.classes.len());
        let branches = block.body.nodes.iter().flat_map(|node| match node {
            Node::Spiking(spiking) => spiking.branches.as_slice(),
            Node::Pool(_) | Node::Dropout { .. } => &[],
        });
        macs += branches.map(|branch| branch.conv.macs()).sum::<f64>();
        let layers = head.hidden.iter().map(|hidden| &hidden.dense).chain([&head.readout]);
        macs += layers.map(|dense| (dense.inputs * dense.outputs) as f64).sum::<f64>();
        parameters +=
            block.body.parameters.iter().chain(&head.parameters).map(|parameter| parameter.len()).sum::<usize>();
    }
    Ok((macs, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, ImageShape};

    #[test]
    fn one_pass_without_spikes_by_hand() {
        let text = "[[network.block]]\nlayers = [{ type = \"conv\", channels = 2, kernel = 1 \
        }]\n[[network.block]]\nlayers = [{ type = \"linear\", features = 3 }]\n[network.head]\npool = 1\nhidden = []\n";
        let spec = crate::spec::written::read(text, &[]).expect("a specification").spec;
        let dataset = DatasetInfo {
            name: "d".into(),
            digest: Digest::of(b""),
            classes: vec!["a".into(), "b".into()],
            shape: ImageShape::new(1, 4, 4),
            train: 1,
            validation: 1,
            test: 1,
        };
        // 2 outputs of 1 input at 16 positions, 3 outputs of 32 inputs, 2 classes of 3 features.
        let (macs, parameters) = end_to_end(&spec, &dataset).expect("a network");
        assert_eq!(macs, 32.0 + 96.0 + 6.0);
        assert_eq!(parameters, (2 + 2 + 2) + (96 + 3) + (6 + 2));
    }
}
