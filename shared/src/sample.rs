//! Test samples to look at: some of every exit, with what each block that ran said. `samples.json` of a model package.

use crate::exit::{self, ExitRule, top};
use crate::record::Records;
use serde::{Deserialize, Serialize};

/// Samples of an exit.
pub const MOST: usize = 8;

/// Those of them that were answered wrongly, where there are as many.
const WRONG: usize = 4;

/// Samples of every exit of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// One entry per block, first to last.
    pub exits: Vec<ExitSamples>,
}

/// Samples that leave behind one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitSamples {
    /// The block, from 1.
    pub block: u32,
    /// Test samples that leave there.
    pub answered: usize,
    /// Those of them that are answered rightly.
    pub right: usize,
    /// Some of them, in the order of the data set.
    pub samples: Vec<Sample>,
}

/// A test sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its index in the test data.
    pub id: u32,
    /// Its true class.
    pub label: u16,
    /// The answer.
    pub answer: u16,
    /// The answer's probability in [0, 1].
    pub probability: f32,
    /// What each block that ran said, first to last.
    pub said: Vec<BlockSaid>,
    /// The image: PNG in Base64.
    pub png: String,
}

/// What a block said about a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockSaid {
    /// The block, from 1.
    pub block: u32,
    /// The most probable of its classes.
    pub class: u16,
    /// Its probability in [0, 1].
    pub confidence: f32,
    /// P(hard) in [0, 1]; 0 of the last block.
    pub hard: f32,
}

/// So many items of a list, evenly spread over it.
fn spread(items: &[usize], most: usize) -> impl Iterator<Item = usize> {
    let many = most.min(items.len());
    (0..many).map(move |at| items[at * items.len() / many])
}

impl Samples {
    /// Picks samples of test data from what a network said about them, of which `png` gives the image by its index. The
    /// same records give the same ones: half of them wrong where there are as many, spread over the data.
    pub fn pick(records: &Records, rule: &ExitRule, classes: usize, png: impl Fn(u32) -> String) -> Self {
        let answers: Vec<exit::Answer> =
            (0..records.len()).map(|at| exit::answer(records, at, rule, classes)).collect();
        let of_exit = |(number, index): (u32, usize)| {
            let (right, wrong): (Vec<usize>, Vec<usize>) = (0..records.len())
                .filter(|at| answers[*at].exit == index)
                .partition(|at| answers[*at].class == records.labels[*at]);
            let most_wrong = WRONG.max(MOST.saturating_sub(right.len()));
            let mut shown: Vec<usize> = spread(&wrong, most_wrong).collect();
            shown.extend(spread(&right, MOST - shown.len()));
            shown.sort_by_key(|at| records.ids[*at]);
            let sample = |at: usize| Sample {
                id: records.ids[at],
                label: records.labels[at],
                answer: answers[at].class,
                probability: answers[at].probability,
                said: (1..).zip(&records.blocks[..=index]).map(|(number, _)| said(records, at, number)).collect(),
                png: png(records.ids[at]),
            };
            let (answered, right) = (right.len() + wrong.len(), right.len());
            ExitSamples { block: number, answered, right, samples: shown.into_iter().map(sample).collect() }
        };
        Self { exits: (1..).zip(0..records.blocks.len()).map(of_exit).collect() }
    }
}

/// What a block, from 1, said about a sample.
fn said(records: &Records, sample: usize, number: u32) -> BlockSaid {
    let block = &records.blocks[number as usize - 1];
    let (index, confidence) = top(block.probabilities_of(sample));
    let class = block.classes.global(usize::from(index)).unwrap_or(u16::MAX);
    BlockSaid { block: number, class, confidence, hard: block.hard[sample] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Gate;
    use crate::label::LabelMap;
    use crate::record::BlockRecords;
    use crate::spec::Combine;

    fn block(classes: LabelMap, probabilities: Vec<f32>, hard: Vec<f32>) -> BlockRecords {
        let synops = vec![1.0; hard.len()];
        let (body_synops, exit_synops) = (synops.clone(), synops);
        BlockRecords { classes, probabilities, hard, body_synops, exit_synops, body_macs: 1.0, exit_macs: 1.0 }
    }

    #[test]
    fn some_of_every_exit_with_what_each_block_said() {
        // Forty samples of class 0: the first thirty leave behind block 1, of which every third says class 1; the
        // others go on to block 2, which knows the classes 0 and 2 and is always right.
        let count = 40_u16;
        let first: Vec<f32> =
            (0..count).flat_map(|at| if at % 3 == 0 { [0.1, 0.7, 0.2] } else { [0.8, 0.1, 0.1] }).collect();
        let hard: Vec<f32> = (0..count).map(|at| if at < 30 { 0.25 } else { 0.75 }).collect();
        let second: Vec<f32> = (0..count).flat_map(|_| [0.9, 0.1]).collect();
        let records = Records {
            ids: (0..u32::from(count)).map(|at| 100 + at).collect(),
            labels: vec![0; usize::from(count)],
            blocks: vec![
                block(LabelMap::all(3), first, hard),
                block(LabelMap::new(vec![0, 2]), second, vec![0.0; usize::from(count)]),
            ],
        };
        let rule = ExitRule::new(Combine::Last, vec![Gate { tau: 0.5, gamma: 0.0 }]);
        let samples = Samples::pick(&records, &rule, 3, |id| format!("png{id}"));
        let [one, two] = &samples.exits[..] else { panic!("{samples:?}") };
        assert_eq!((one.block, one.answered, one.right, two.block, two.answered, two.right), (1, 30, 20, 2, 10, 10));
        assert_eq!((one.samples.len(), two.samples.len()), (MOST, MOST));
        assert_eq!(one.samples.iter().filter(|sample| sample.answer != sample.label).count(), WRONG);
        assert!(
            one.samples.is_sorted_by_key(|sample| sample.id) && one.samples.iter().all(|sample| sample.said.len() == 1)
        );
        let wrong = &one.samples[0];
        assert_eq!((wrong.id, wrong.answer, wrong.png.as_str()), (100, 1, "png100"));
        assert_eq!(wrong.said, [BlockSaid { block: 1, class: 1, confidence: 0.7, hard: 0.25 }]);
        let deep = two.samples.iter().find(|sample| sample.id == 130).expect("the first of its exit");
        let expected = [(1, 1, 0.7, 0.75), (2, 0, 0.9, 0.0)];
        assert_eq!((deep.answer, deep.probability), (0, 0.9));
        let said: Vec<_> = deep.said.iter().map(|said| (said.block, said.class, said.confidence, said.hard)).collect();
        assert_eq!(said, expected);
        let json = serde_json::to_string(&samples).expect("plain data");
        assert_eq!(serde_json::from_str::<Samples>(&json).expect("what was written"), samples);
    }
}
