//! Hard inputs: which training samples of a block train the next one, whatever their class.
//!
//! A frozen block says how sure it is of its training samples, shard by shard ([`Scores`]); from all of that follows,
//! once, which of them go on ([`select`]). Both are stored as JSON. Sample numbers are indices in the images of the
//! split.

use crate::spec::hard_inputs::HardInputSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How sure a block is of the samples of one shard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    /// The samples.
    pub ids: Vec<u32>,
    /// The largest probability of each answer, in [0, 1].
    pub confidence: Vec<f32>,
    /// Whether the answer is right.
    pub right: Vec<bool>,
}

/// The samples that train a block, by shard of the training split; of every shard in its order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Selection {
    /// Samples of each shard.
    pub shards: Vec<Vec<u32>>,
}

/// Scores or a selection that do not belong where they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misfit(&'static str);

impl Scores {
    /// Whether these are the scores of some samples, and whole.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self, ids: &[u32]) -> Result<(), Misfit> {
        if self.ids != ids {
            return Err(Misfit("the scores are of other samples"));
        }
        let is_whole = self.confidence.len() == ids.len() && self.right.len() == ids.len();
        let is_sound = self.confidence.iter().all(|confidence| (0.0..=1.0).contains(confidence));
        (is_whole && is_sound).then_some(()).ok_or(Misfit("a sample has no score, or one that is no probability"))
    }
}

impl Selection {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Vec::len).sum()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of its samples that were answered wrongly, by the scores that it was made of.
    pub fn wrong(&self, scores: &[Scores]) -> usize {
        let of_shard = |(selected, scores): (&Vec<u32>, &Scores)| {
            let mut next = selected.iter().peekable();
            let answers = scores.ids.iter().zip(&scores.right);
            answers.filter(|(id, right)| next.next_if_eq(id).is_some() && !**right).count()
        };
        self.shards.iter().zip(scores).map(of_shard).sum()
    }

    /// Whether it selects among the samples of some shards, in their order.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn check(&self, shards: &[Vec<u32>]) -> Result<(), Misfit> {
        let is_within = |(selected, all): (&Vec<u32>, &Vec<u32>)| {
            let mut all = all.iter();
            selected.iter().all(|id| all.any(|other| other == id))
        };
        let fits = self.shards.len() == shards.len() && self.shards.iter().zip(shards).all(is_within);
        fits.then_some(()).ok_or(Misfit("it selects samples that are not the block's"))
    }
}

/// One sample in the order in which they go on.
struct Ranked {
    shard: usize,
    id: u32,
    class: u16,
}

/// `share` of some samples, rounded down; what an f64 lacks of a whole number is no reason to lose a sample.
fn share_of(samples: usize, share: f64) -> usize {
    ((samples as f64 * share + 1e-9).floor() as usize).min(samples)
}

/// The samples that train the next block, by the scores of every shard of the block's own.
///
/// Wrong answers come first, then right ones; each by ascending confidence, ties by the sample's number. In this order
/// `floor` of the samples of every class go on, rounded down, and then whatever is next until they are `fraction` of
/// all, rounded down. As `floor` is at most `fraction`, there is room for the first.
pub fn select(spec: &HardInputSpec, scores: &[Scores], class: impl Fn(u32) -> u16) -> Selection {
    let of_shard = |(shard, scores): (usize, &Scores)| {
        let one = |((&id, &confidence), &right): ((&u32, &f32), &bool)| (right, confidence, id, shard);
        scores.ids.iter().zip(&scores.confidence).zip(&scores.right).map(one).collect::<Vec<_>>()
    };
    let mut ranked: Vec<(bool, f32, u32, usize)> = scores.iter().enumerate().flat_map(of_shard).collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let ranked: Vec<Ranked> =
        ranked.into_iter().map(|(_, _, id, shard)| Ranked { shard, id, class: class(id) }).collect();

    let mut due: BTreeMap<u16, usize> = BTreeMap::new();
    ranked.iter().for_each(|sample| *due.entry(sample.class).or_default() += 1);
    due.values_mut().for_each(|samples| *samples = share_of(*samples, spec.floor));
    let most = share_of(ranked.len(), spec.fraction.unwrap_or(1.0));
    let mut free = most.saturating_sub(due.values().sum());

    let mut chosen: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); scores.len()];
    for sample in &ranked {
        let own = due.entry(sample.class).or_default();
        let place = if *own > 0 { own } else { &mut free };
        if *place > 0 {
            *place -= 1;
            chosen[sample.shard].insert(sample.id);
        }
    }
    let in_order = |(scores, chosen): (&Scores, &BTreeSet<u32>)| {
        scores.ids.iter().filter(|id| chosen.contains(id)).copied().collect()
    };
    Selection { shards: scores.iter().zip(&chosen).map(in_order).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(fraction: f64, floor: f64) -> HardInputSpec {
        HardInputSpec { fraction: Some(fraction), floor }
    }

    /// Two shards of five samples; 0 to 4 are of class 0 as far as they are even, of class 1 else; from 5 on of class
    /// 2.
    fn scores() -> Vec<Scores> {
        let shard = |rows: [(u32, f32, bool); 5]| Scores {
            ids: rows.iter().map(|row| row.0).collect(),
            confidence: rows.iter().map(|row| row.1).collect(),
            right: rows.iter().map(|row| row.2).collect(),
        };
        vec![
            shard([(3, 0.4, true), (0, 0.9, false), (4, 0.5, true), (1, 0.99, true), (2, 0.95, true)]),
            shard([(9, 0.97, true), (5, 0.98, true), (6, 0.99, true), (8, 0.99, true), (7, 0.99, true)]),
        ]
    }

    fn class(id: u32) -> u16 {
        if id >= 5 { 2 } else { (id % 2) as u16 }
    }

    #[test]
    fn wrong_answers_are_counted_among_the_selected() {
        let wrong = |shards: [&[u32]; 2]| Selection { shards: shards.map(<[u32]>::to_vec).to_vec() }.wrong(&scores());
        assert_eq!(wrong([&[3, 0, 2], &[9]]), 1, "sample 0");
        assert_eq!(wrong([&[3, 4], &[9, 7]]), 0, "it is wrong, and not selected");
        let mut all = scores();
        all.iter_mut().for_each(|shard| shard.right.fill(false));
        assert_eq!(select(&spec(0.5, 0.0), &all, class).wrong(&all), 5, "more are wrong than go on");
    }

    fn selected(fraction: f64, floor: f64) -> Vec<Vec<u32>> {
        select(&spec(fraction, floor), &scores(), class).shards
    }

    #[test]
    fn the_rule_by_hand() {
        // The order of all: 0 (wrong), 3, 4, 2, 9, 5, then 1, 6, 7, 8 at 0.99 by their numbers.
        assert_eq!(selected(0.1, 0.0), [vec![0], vec![]], "the wrong one, however sure of it the block is");
        assert_eq!(selected(0.3, 0.0), [vec![3, 0, 4], vec![]], "in the order of the shard");
        assert_eq!(selected(0.7, 0.0), [vec![3, 0, 4, 1, 2], vec![9, 5]], "0.99 three times: 1 comes first");
        assert_eq!(selected(0.8, 0.0), [vec![3, 0, 4, 1, 2], vec![9, 5, 6]]);
        assert_eq!(selected(1.0, 0.0).concat().len(), 10);
    }

    #[test]
    fn the_floor_by_hand() {
        // 0.4 of three, two and five samples of classes 0, 1 and 2 are 1, 0 and 2; so 0, 9 and 5 go on, and one more:
        // 3.
        assert_eq!(selected(0.4, 0.4), [vec![3, 0], vec![9, 5]]);
        // 0.5 of them are 1, 1 and 2: 0, 3, 9 and 5. The fifth is 4.
        assert_eq!(selected(0.5, 0.5), [vec![3, 0, 4], vec![9, 5]]);
        assert_eq!(selected(0.5, 0.0), [vec![3, 0, 4, 2], vec![9]]);
    }

    #[test]
    fn where_more_are_wrong_the_least_confident_of_them_go_on() {
        let mut scores = scores();
        scores[1].right = vec![false; 5];
        let found = select(&spec(0.3, 0.0), &scores, class).shards;
        assert_eq!(found, [vec![0], vec![9, 5]], "0.9, 0.97 and 0.98 of six wrong ones");
    }

    #[test]
    fn a_share_that_an_f64_lacks_is_whole() {
        assert_eq!((share_of(100, 0.29), share_of(10, 0.7), share_of(3, 0.5), share_of(0, 1.0)), (29, 7, 1, 0));
    }

    #[test]
    fn what_does_not_belong_is_seen() {
        let scores = scores();
        let ids = scores[0].ids.clone();
        assert_eq!(scores[0].check(&ids), Ok(()));
        assert!(scores[1].check(&ids).is_err());
        let mut cut = scores[0].clone();
        cut.right.pop();
        assert!(cut.check(&ids).is_err());
        cut = scores[0].clone();
        cut.confidence[2] = f32::NAN;
        assert!(cut.check(&ids).is_err());
        let shards = vec![ids, scores[1].ids.clone()];
        let selection = |first: Vec<u32>| Selection { shards: vec![first, vec![5, 7]] };
        assert_eq!(selection(vec![3, 4, 2]).check(&shards), Ok(()));
        assert!(selection(vec![4, 3]).check(&shards).is_err(), "another order");
        assert!(selection(vec![3, 3]).check(&shards).is_err() && selection(vec![5]).check(&shards).is_err());
        assert!(Selection { shards: vec![vec![3]] }.check(&shards).is_err(), "a shard is missing");
    }

    proptest! {
        #[test]
        fn at_most_the_fraction_and_at_least_the_floor(
            rows in prop::collection::vec((0_u8..20, any::<bool>(), 0_u16..4), 1..200),
            fraction in 0.01_f64..1.0, part in 0.0_f64..1.0, shards in 1_usize..5,
        ) {
            let floor = fraction * part;
            let mut scores = vec![Scores::default(); shards];
            for (id, (confidence, right, _)) in (0_u32..).zip(&rows) {
                let shard = &mut scores[id as usize % shards];
                shard.ids.push(id);
                shard.confidence.push(f32::from(*confidence) / 20.0);
                shard.right.push(*right);
            }
            let class = |id: u32| rows[id as usize].2;
            let chosen = select(&spec(fraction, floor), &scores, class);
            let all: Vec<Vec<u32>> = scores.iter().map(|scores| scores.ids.clone()).collect();
            prop_assert_eq!(chosen.check(&all), Ok(()));
            prop_assert_eq!(chosen.len(), share_of(rows.len(), fraction));
            let chosen: BTreeSet<u32> = chosen.shards.concat().into_iter().collect();
            for of in 0..4 {
                let own = || (0_u32..).take(rows.len()).filter(|&id| class(id) == of);
                let gone_on = own().filter(|id| chosen.contains(id)).count();
                prop_assert!(gone_on >= share_of(own().count(), floor));
            }
            // The shards that the work is cut into decide nothing.
            let one = Scores {
                ids: (0..).take(rows.len()).collect(),
                confidence: rows.iter().map(|row| f32::from(row.0) / 20.0).collect(),
                right: rows.iter().map(|row| row.1).collect(),
            };
            let whole: BTreeSet<u32> = select(&spec(fraction, floor), &[one], class).shards.concat().into_iter()
                .collect();
            prop_assert_eq!(whole, chosen);
        }
    }
}
