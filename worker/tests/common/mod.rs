//! One executor on a small data set, and tasks of its first block.

#![allow(dead_code, reason = "each test file uses its own part")]

use bloctrain_data::{Dataset, Split};
use bloctrain_shared::label::LabelMap;
use bloctrain_shared::plan::{ARITHMETIC_VERSION, Submission};
use bloctrain_shared::spec::{Override, RunSpec, parse};
use bloctrain_shared::task::{ObjectRef, Output, Task, TaskId, Work};
use bloctrain_shared::{ImageShape, seed};
use bloctrain_store::Artefacts;
use bloctrain_worker::session::control::{Control, Stop};
use bloctrain_worker::stage::Executor;
use bloctrain_worker::stage::io::Io;
use bloctrain_worker::stage::prepared::{Datasets, Prepared};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use bytes::Bytes;
use rand::RngExt;
use std::sync::Arc;
use tokio::runtime::Runtime;

pub(crate) const SHAPE: ImageShape = ImageShape::new(1, 12, 12);

/// The default spec with some fields set.
pub(crate) fn spec(sets: &[&str]) -> RunSpec {
    let sets: Vec<Override> = sets.iter().map(|set| Override::parse(set).expect("a pair")).collect();
    parse("", &sets).expect("valid")
}

/// Images of three classes, each brighter than the one before, with every grey level somewhere.
pub(crate) fn dataset() -> Dataset {
    let split = |name: &str, samples: usize| {
        let mut rng = seed::rng(5, name, &[]);
        let labels: Vec<u16> = (0..samples).map(|sample| (sample % 3) as u16).collect();
        let pixels = labels.iter().flat_map(|&label| (0..SHAPE.len()).map(move |_| 60 * label));
        let pixels = pixels.map(|base| (base + rng.random_range(0..136)) as u8).collect();
        Split::new(labels, pixels, SHAPE.len())
    };
    let classes = ["dark", "grey", "light"].map(str::to_owned).to_vec();
    Dataset::new("three", classes, SHAPE, split("train", 90), split("test", 30))
}

/// A worker without a coordinator, on a store of its own.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) store: Artefacts,
    pub(crate) submission: Submission,
    pub(crate) classes: LabelMap,
    executor: Executor<Autodiff<Flex>>,
    object: ObjectRef,
}

impl Bench {
    pub(crate) fn new(spec: &RunSpec, dataset: Dataset) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let store = Artefacts::open("memory://").expect("memory");
        let prepared = Prepared::new(dataset, spec);
        let classes = LabelMap::all(prepared.dataset.classes.len());
        let submission = Submission {
            spec: spec.clone(),
            dataset: prepared.info(),
            arithmetic: ARITHMETIC_VERSION,
            backend: "cpu".into(),
        };
        let datasets = Datasets::default();
        datasets.add(Arc::new(prepared), spec);
        let json = Bytes::from(serde_json::to_vec(&submission).expect("plain data"));
        let object = runtime.block_on(store.put("runs/r/spec.json", json)).expect("written");
        let io = Io::new(store.clone(), runtime.handle().clone());
        let executor = Executor::new(io, Default::default(), datasets, Arc::new(|| 0.0), "cpu");
        Self { runtime, store, submission, classes, executor, object }
    }

    pub(crate) fn put(&self, key: &str, bytes: Bytes) -> ObjectRef {
        self.runtime.block_on(self.store.put(key, bytes)).expect("written")
    }

    pub(crate) fn get(&self, object: &ObjectRef) -> Bytes {
        self.runtime.block_on(self.store.get(object)).expect("there")
    }

    pub(crate) fn run(&mut self, id: TaskId, work: Work) -> Result<Output, Stop> {
        let task = Task { id, run: "r".into(), submission: self.object.clone(), work };
        self.executor.run(&task, &Control::default())
    }
}
