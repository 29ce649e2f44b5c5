//! What a simulated worker does with a task: a pure function of its named inputs, like the real one, but of digests.
//!
//! The weights after a step are the digest of the weights before it, the step, the batch's samples and the inputs that
//! the step reads. So any sample that is skipped, trained on twice or read from a wrong shard shows in the final
//! weights, and every round also says which samples it covered.

use crate::bug::Bug;
use crate::coverage::Covered;
use crate::sample::sizes;
use crate::world::World;
use bloctrain_session::control::{Control, Stop, failure};
use bloctrain_shared::Digest;
use bloctrain_shared::course::Course;
use bloctrain_shared::key::{self, CheckpointPart};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::metric::Confusion;
use bloctrain_shared::order::{batches, epoch_order};
use bloctrain_shared::plan::Submission;
use bloctrain_shared::rounds::{Rounds, batch_count};
use bloctrain_shared::stage::{detect, evaluate, export, finish, merge, score, select, train, validate};
use bloctrain_shared::summary::Summary;
use bloctrain_shared::task::{
    CachedShard, Checkpoint, Failure, FrozenBlock, ObjectRef, Output, RoundMetrics, Source, Split, Task, Trained, Work,
};
use bloctrain_store::Artefacts;
use bytes::Bytes;
use rand::RngExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Inputs of a round of training.
#[derive(Clone, Copy)]
struct Round<'a> {
    number: u32,
    replica: u32,
    classes: &'a LabelMap,
    from: Option<&'a Checkpoint>,
    inherits: Option<&'a ObjectRef>,
    among: Option<&'a ObjectRef>,
    source: &'a Source,
}

/// The place where tasks run: a store, and how long a step takes.
pub(crate) struct Bench<'a> {
    pub(crate) world: &'a World,
    pub(crate) artefacts: &'a Artefacts,
    pub(crate) step_ms: u64,
    /// Whether what is done here counts; the undisturbed run does not.
    pub(crate) is_watched: bool,
    /// Whether its tasks hang from now on.
    pub(crate) hangs: &'a AtomicBool,
}

/// A number below `below` that follows from what is given.
fn drawn(parts: &[&[u8]], below: u64) -> u64 {
    let digest = Digest::of_parts(parts);
    let bytes: [u8; 8] = digest.as_bytes()[..8].try_into().unwrap_or_default();
    u64::from_le_bytes(bytes) % below
}

fn fatal(problem: impl std::fmt::Display) -> Failure {
    Failure::Fatal { message: problem.to_string() }
}

/// The steps done and the digest of the weights, as a checkpoint object holds them.
fn decode(bytes: &Bytes) -> Option<(u64, Digest)> {
    let (steps, digest) = std::str::from_utf8(bytes).ok()?.trim_start_matches(char::is_alphabetic).split_once(' ')?;
    Some((steps.parse().ok()?, digest.parse().ok()?))
}

impl Bench<'_> {
    /// Runs a task to its end.
    ///
    /// # Errors
    /// When an input is lost, the store fails, or the task is interrupted.
    pub(crate) async fn run(&self, task: &Task, control: &Control) -> Result<Output, Stop> {
        let bytes = self.get(&task.submission).await?;
        let submission: Submission = serde_json::from_slice(&bytes).map_err(fatal)?;
        let block = task.id.block;
        match &task.work {
            Work::Train(train::Work { round, replica, classes, from, inherits, among, source }) => {
                let (from, inherits, among) = (from.as_ref(), inherits.as_ref(), among.as_ref());
                let round = Round { number: *round, replica: *replica, classes, from, inherits, among, source };
                self.train(&submission, &task.run, block, &round, control).await
            }
            Work::Merge(merge::Work { round, classes, from, inherits, replicas, source }) => {
                self.step(control).await?;
                self.read_shards(source).await?;
                let (from, inherits) = (from.as_ref(), inherits.as_ref());
                let round = Round { number: *round, replica: 0, classes, from, inherits, among: None, source };
                self.merge(&submission, &task.run, block, &round, replicas).await
            }
            Work::Validate(validate::Work { shard, classes, weights, source }) => {
                self.step(control).await?;
                self.read(source, &[weights]).await?;
                Ok(Output::Validate(validate::Output { confusion: confusion(&submission, classes, weights, *shard) }))
            }
            Work::Score(score::Work { shard, weights, among, source, .. }) => {
                self.step(control).await?;
                let read: Vec<&ObjectRef> = [weights].into_iter().chain(among).collect();
                let made = self.read(source, &read).await?;
                let content = Digest::of_parts(&[b"scores", made.as_bytes(), &shard.to_le_bytes()]);
                let object = self.put(&key::scores(&task.run, block, *shard, content), content.to_string()).await?;
                Ok(Output::Score(score::Output { scores: object }))
            }
            Work::Select(select::Work { classes, among, scores }) => {
                self.step(control).await?;
                let read: Vec<&ObjectRef> = scores.iter().chain(among).collect();
                let made = self.read(&Source::Images, &read).await?;
                let content = Digest::of_parts(&[b"selection", made.as_bytes()]);
                let object = self.put(&key::selection(&task.run, block, content), content.to_string()).await?;
                let samples = sizes(&submission, Split::Train, classes).iter().sum::<usize>() as u64;
                Ok(Output::Select(select::Output { selection: object, samples, selected: samples, wrong: None }))
            }
            Work::Detect(detect::Work { hard, weights, among, selection, source, .. }) => {
                self.step(control).await?;
                self.step(control).await?;
                let read: Vec<&ObjectRef> = [weights].into_iter().chain(among).chain(selection).collect();
                let made = self.read(source, &read).await?;
                let content = Digest::of_parts(&[b"detector", made.as_bytes(), Digest::of_json(hard).as_bytes()]);
                let object = self.put(&key::detector(&task.run, block, content), content.to_string()).await?;
                Ok(Output::Detect(detect::Output { detector: Some(object) }))
            }
            Work::Export(export::Work { split, view, shard, hard, weights, among, selection, source, .. }) => {
                self.step(control).await?;
                let read: Vec<&ObjectRef> = [weights].into_iter().chain(among).chain(selection).collect();
                let made = self.read(source, &read).await?;
                let part = [split.name().as_bytes(), &view.to_le_bytes(), &shard.to_le_bytes()].concat();
                let content = Digest::of_parts(&[b"spikes", made.as_bytes(), Digest::of_json(hard).as_bytes(), &part]);
                let object = self.put(&key::cache_data(content), content.to_string()).await?;
                if self.is_watched {
                    self.world.oracle().exported(object.digest, weights.digest);
                }
                let shard = CachedShard { split: *split, view: *view, shard: *shard, object };
                Ok(Output::Export(export::Output { shard, uncompressed_bytes: 8, reused: false }))
            }
            Work::Evaluate(evaluate::Work { split, shard, blocks }) => {
                self.step(control).await?;
                let made = self.network(blocks, &[]).await?;
                let content = Digest::of_parts(&[made.as_bytes(), split.name().as_bytes(), &shard.to_le_bytes()]);
                let object = self.put(&key::records(&task.run, *split, *shard, content), content.to_string()).await?;
                Ok(Output::Evaluate(evaluate::Output { records: object }))
            }
            Work::Finish(finish::Work { blocks, validation, test, .. }) => {
                self.step(control).await?;
                let records: Vec<&ObjectRef> = validation.iter().chain(test).collect();
                let made = self.network(blocks, &records).await?;
                for file in key::MODEL_FILES {
                    let tensors = Digest::of(made.to_string().as_bytes());
                    let is_manifest = file == key::MODEL_MANIFEST;
                    let content = if is_manifest {
                        serde_json::json!({ "tensors": tensors }).to_string()
                    } else {
                        made.to_string()
                    };
                    self.put(&key::model(&task.run, file), content).await?;
                }
                Ok(Output::Finish(finish::Output { summary: Box::new(summary(&task.run, made)?) }))
            }
        }
    }

    /// What stands for a block's first values.
    async fn first(&self, seed: u64, block: u32, inherits: Option<&ObjectRef>) -> Result<Digest, Failure> {
        let seeded = Digest::of_parts(&[b"seed", &seed.to_le_bytes(), &block.to_le_bytes()]);
        Ok(match inherits {
            Some(before) => {
                Digest::of_parts(&[b"inherited", seeded.as_bytes(), self.state(before).await?.1.as_bytes()])
            }
            None => seeded,
        })
    }

    async fn train(
        &self,
        submission: &Submission,
        run: &str,
        block: u32,
        round: &Round<'_>,
        control: &Control,
    ) -> Result<Output, Stop> {
        let spec = &submission.spec;
        let Round { number, replica, classes, from, inherits, among, source } = *round;
        let (mut steps, mut weights) = match from {
            // A replica starts from merged weights with its own optimiser state.
            Some(from) => (self.state(&from.optimizer).await?.0, self.state(&from.weights).await?.1),
            None => (0, self.first(spec.run.seed, block, inherits).await?),
        };
        let inputs = self.read_shards(source).await?;
        // A simulated selection has all samples, and shows in the weights.
        if let Some(among) = among {
            let selected = self.get(among).await?;
            if steps == 0 {
                weights = Digest::of_parts(&[b"among", weights.as_bytes(), &selected]);
            }
        }
        let sizes = sizes(submission, Split::Train, classes);
        let views = if spec.data.augment.is_empty() { 1 } else { spec.data.views.max(1) };
        let per_epoch = batch_count(sizes.iter().sum(), &spec.train);
        let course = Course::new(&spec.train, per_epoch, steps, number, replica).map_err(fatal)?;
        let mut covered = Covered { before: from.map(|from| from.weights.digest), samples: Vec::new() };
        let mut is_whole = true;
        while steps < course.planned {
            self.step(control).await?;
            let (epoch, at) = course.place(steps);
            let order = epoch_order(&sizes, spec.run.seed, block, epoch);
            let all = batches(&order, spec.train.batch, spec.train.drop_last);
            let batch = all[at];
            let read = inputs.iter().filter(|shard| shard.split == Split::Train && shard.view == epoch % views);
            let read: Vec<u8> = read.flat_map(|shard| *shard.object.digest.as_bytes()).collect();
            if *source != Source::Images && read.is_empty() {
                return Err(fatal(format!("R-4: the view of epoch {epoch} is not there")).into());
            }
            let positions: Vec<u8> =
                batch.iter().flat_map(|(shard, index)| [*shard as u8, (*index >> 8) as u8, *index as u8]).collect();
            weights =
                Digest::of_parts(&[b"step", weights.as_bytes(), &course.batch(steps).to_le_bytes(), &positions, &read]);
            covered.samples.extend(batch.iter().map(|(shard, index)| (epoch, *shard, *index)));
            steps += 1;
            if control.hands_back() && steps < course.planned {
                is_whole = false;
                steps += u64::from(self.world.bug == Some(Bug::SkippedSample));
                break;
            }
        }
        if self.is_watched && self.world.scenario.is_differing && !covered.samples.is_empty() {
            let unlike = self.world.draw("work", |rng| rng.random::<u64>());
            weights = Digest::of_parts(&[b"unlike", weights.as_bytes(), &unlike.to_le_bytes()]);
        }
        let checkpoint = self.save(run, block, steps, weights).await?;
        let epochs = course.epochs(steps);
        let accuracy = drawn(&[b"accuracy", weights.as_bytes()], 20) as f64 / 20.0;
        let metrics = RoundMetrics {
            epochs,
            epoch_samples: sizes.iter().sum(),
            validation_accuracy: (is_whole && replica == 0 && spec.train.patience > 0).then_some(accuracy),
            samples: covered.samples.len() as u64,
            ..RoundMetrics::default()
        };
        if self.is_watched {
            let spikes = inputs.iter().map(|shard| shard.object.digest).collect();
            self.world.oracle().trained(checkpoint.weights.digest, covered, spikes);
        }
        if replica > 0 {
            return Ok(Output::Replica(train::Part { checkpoint, complete: is_whole, metrics }));
        }
        Ok(Output::Train(train::Output { checkpoint, finished: epochs >= spec.train.epochs, metrics }))
    }

    async fn merge(
        &self,
        submission: &Submission,
        run: &str,
        block: u32,
        round: &Round<'_>,
        replicas: &[Trained],
    ) -> Result<Output, Stop> {
        let train = &submission.spec.train;
        let mut made = vec![match round.from {
            Some(from) => {
                self.get(&from.optimizer).await?;
                self.state(&from.weights).await?.1
            }
            None => self.first(submission.spec.run.seed, block, round.inherits).await?,
        }];
        for replica in replicas {
            made.push(self.state(&replica.weights).await?.1);
        }
        let parts: Vec<&[u8]> = made.iter().map(|digest| digest.as_bytes().as_slice()).collect();
        let weights = Digest::of_parts(&[&[b"merge".as_slice()], parts.as_slice()].concat());
        let checkpoint = self.save(run, block, u64::from(round.number) + 1, weights).await?;
        let sizes = sizes(submission, Split::Train, round.classes);
        let rounds = Rounds::of(train, batch_count(sizes.iter().sum(), train));
        let epochs = rounds.epochs(round.number);
        let accuracy = drawn(&[b"accuracy", weights.as_bytes()], 20) as f64 / 20.0;
        let metrics = RoundMetrics {
            epochs,
            validation_accuracy: (train.patience > 0 && rounds.ends_epoch(round.number)).then_some(accuracy),
            ..RoundMetrics::joined(replicas.iter().map(|replica| &replica.metrics))
        };
        if self.is_watched {
            let from = round.from.map(|from| from.weights.digest);
            let replicas: Vec<Digest> = replicas.iter().map(|replica| replica.weights.digest).collect();
            self.world.oracle().merged(checkpoint.weights.digest, from, &replicas);
        }
        Ok(Output::Train(train::Output { checkpoint, finished: epochs >= train.epochs, metrics }))
    }

    /// Steps and digest of a part of a checkpoint.
    async fn state(&self, object: &ObjectRef) -> Result<(u64, Digest), Failure> {
        decode(&self.get(object).await?).ok_or_else(|| fatal("a checkpoint makes no sense"))
    }

    async fn save(&self, run: &str, block: u32, steps: u64, weights: Digest) -> Result<Checkpoint, Failure> {
        let part = async |part: CheckpointPart, name: &str| {
            let content = format!("{name}{steps} {weights}");
            self.put(&key::checkpoint(run, block, part, Digest::of(content.as_bytes())), content).await
        };
        let weights = part(CheckpointPart::Weights, "w").await?;
        let optimizer = part(CheckpointPart::Optimizer, "o").await?;
        Ok(Checkpoint { weights, optimizer })
    }

    /// Time passes, unless the task is interrupted.
    async fn step(&self, control: &Control) -> Result<(), Stop> {
        if self.step_ms > 0 {
            self.world.pause(self.step_ms).await;
        }
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        control.check()
    }

    async fn get(&self, object: &ObjectRef) -> Result<Bytes, Failure> {
        self.artefacts.get(object).await.map_err(failure)
    }

    async fn put(&self, key: &str, content: String) -> Result<ObjectRef, Failure> {
        self.artefacts.put(key, Bytes::from(content)).await.map_err(failure)
    }

    async fn read_shards<'s>(&self, source: &'s Source) -> Result<&'s [CachedShard], Failure> {
        let shards = match source {
            Source::Cache(shards) => shards,
            Source::Images => return Ok(&[]),
            Source::Fresh(fresh) => {
                for block in &fresh.blocks {
                    self.get(&block.weights).await?;
                }
                &fresh.validation
            }
        };
        for shard in shards {
            self.get(&shard.object).await?;
        }
        Ok(shards)
    }

    /// Reads some objects and the input of a block; gives the digest of all of it.
    async fn read(&self, source: &Source, objects: &[&ObjectRef]) -> Result<Digest, Failure> {
        let mut read = Vec::new();
        for object in objects {
            read.extend(self.get(object).await?);
        }
        for shard in self.read_shards(source).await? {
            read.extend(shard.object.digest.as_bytes());
        }
        Ok(Digest::of(&read))
    }

    async fn network(&self, blocks: &[FrozenBlock], records: &[&ObjectRef]) -> Result<Digest, Failure> {
        let objects: Vec<&ObjectRef> =
            blocks.iter().flat_map(|block| [Some(&block.weights), block.detector.as_ref()]).flatten().collect();
        self.read(&Source::Images, &[&objects, records].concat()).await
    }
}

/// Answers to each sample of a validation shard: how many of a class are right follows from the weights.
fn confusion(submission: &Submission, classes: &LabelMap, weights: &ObjectRef, shard: u32) -> Confusion {
    let mut confusion = Confusion::new(classes.len());
    for (class, &global) in classes.globals().iter().enumerate() {
        let own = sizes(submission, Split::Validation, &LabelMap::new(vec![global]))
            .get(shard as usize)
            .copied()
            .unwrap_or(0);
        let right = drawn(&[b"right", weights.digest.as_bytes(), &shard.to_le_bytes(), &[class as u8]], own as u64 + 1);
        (0..own).for_each(|sample| {
            let answer = if (sample as u64) < right { class } else { (class + 1) % classes.len() };
            confusion.add(class, answer);
        });
    }
    confusion
}

/// A summary that says nothing but which model it is of.
fn summary(run: &str, made: Digest) -> Result<Summary, Failure> {
    let text = serde_json::json!({
        "run": run, "dataset": "d", "accuracy": {"test": 0.5, "validation": 0.5}, "blocks": [],
        "inference": {"compute_efficiency": 1.0, "synops_per_sample": 0.0, "macs_per_sample": 0.0,
            "parameter_overhead": 1.0},
        "cache": {"bytes": 0, "uncompressed_bytes": 0}, "wall_seconds": 0.0, "model": made.to_string(), "report": ""
    });
    serde_json::from_value(text).map_err(fatal)
}
