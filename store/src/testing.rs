//! A store that fails on purpose, for tests and for the simulation.
//!
//! [`FaultyStore`] stands before any other store and, by seed, refuses operations, answers late, loses the answer of a
//! write that has happened, breaks reads off, damages bytes on the way, or is down altogether. What befalls an
//! operation depends on the seed, its kind, its key and how often that was asked before, not on how tasks interleave.
//! [`Faults::injected`] counts, so that a test can tell that a fault really happened.

use async_trait::async_trait;
use bloctrain_shared::Digest;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a store misbehaves. Probabilities are between 0 and 1, of each operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Misbehaviour {
    /// Seed of all draws.
    pub seed: u64,
    /// Probability that an operation fails before it does anything.
    pub refuse: f64,
    /// Probability that a write happens and its answer is lost.
    pub lose_answer: f64,
    /// Probability that an answer is late, by [`delay`](Self::delay).
    pub slow: f64,
    /// How late.
    pub delay: Duration,
    /// Probability that a read breaks off in its content.
    pub break_off: f64,
    /// Probability that a byte of what is read arrives changed.
    pub damage: f64,
    /// Everything fails, as when a service answers 503.
    pub down: bool,
    /// Another, empty store is there: reads find nothing, and writes fail.
    pub empty: bool,
    /// Conditions of writes are not honoured.
    pub ignore_conditions: bool,
}

/// Faults that were injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injected {
    /// Operations that failed before they did anything.
    pub refused: u64,
    /// Writes whose answer was lost.
    pub lost_answers: u64,
    /// Late answers.
    pub slow: u64,
    /// Reads that broke off.
    pub broken_off: u64,
    /// Reads with a changed byte.
    pub damaged: u64,
    /// Operations while the store was down.
    pub down: u64,
    /// Operations while another store was there.
    pub empty: u64,
}

#[derive(Debug, Default)]
struct State {
    misbehaviour: Misbehaviour,
    injected: Injected,
    asked: BTreeMap<(&'static str, String), u64>,
}

/// The handle by which a test steers a [`FaultyStore`]. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LoseAnswer,
    BreakOff,
    Damage,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Misbehaves in another way from now on.
    pub fn set(&self, misbehaviour: Misbehaviour) {
        self.state().misbehaviour = misbehaviour;
    }

    /// Changes how the store misbehaves.
    pub fn change(&self, change: impl FnOnce(&mut Misbehaviour)) {
        change(&mut self.state().misbehaviour);
    }

    /// What was injected so far.
    pub fn injected(&self) -> Injected {
        self.state().injected
    }

    /// The answer of a write, unless it happened and its answer is to be lost.
    fn after<T>(&self, fault: Fault, answer: Result<T>) -> Result<T> {
        if fault != Fault::LoseAnswer || answer.is_err() {
            return answer;
        }
        self.state().injected.lost_answers += 1;
        Err(failure("the connection was closed before the answer"))
    }

    fn ignores_conditions(&self) -> bool {
        self.state().misbehaviour.ignore_conditions
    }

    /// Decides about one operation.
    async fn before(&self, operation: &'static str, path: &Path) -> Result<Fault> {
        let late = {
            let mut guard = self.state();
            let State { misbehaviour, injected, asked } = &mut *guard;
            if misbehaviour.down {
                injected.down += 1;
                return Err(failure("503 Service Unavailable, slow down"));
            }
            if misbehaviour.empty {
                injected.empty += 1;
                return Err(if is_write(operation) { failure("read-only file system") } else { nothing(path) });
            }
            let number = asked.entry((operation, path.to_string())).or_default();
            *number += 1;
            let draw = |what: &str, probability: f64| {
                let parts = [
                    &misbehaviour.seed.to_le_bytes(),
                    what.as_bytes(),
                    operation.as_bytes(),
                    path.as_ref().as_bytes(),
                    &number.to_le_bytes(),
                ];
                let digest = Digest::of_parts(&parts);
                let bytes = digest.as_bytes();
                let value = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                f64::from(value) / f64::from(u32::MAX) < probability
            };
            let late = draw("slow", misbehaviour.slow).then_some(misbehaviour.delay);
            injected.slow += u64::from(late.is_some());
            if draw("refuse", misbehaviour.refuse) {
                injected.refused += 1;
                Err((late, failure("500 Internal Server Error")))
            } else if is_write(operation) && draw("lose", misbehaviour.lose_answer) {
                Ok((late, Fault::LoseAnswer))
            } else if operation == "get" && draw("break", misbehaviour.break_off) {
                injected.broken_off += 1;
                Ok((late, Fault::BreakOff))
            } else if operation == "get" && draw("damage", misbehaviour.damage) {
                injected.damaged += 1;
                Ok((late, Fault::Damage))
            } else {
                Ok((late, Fault::None))
            }
        };
        let (late, answer) = match late {
            Ok((late, fault)) => (late, Ok(fault)),
            Err((late, error)) => (late, Err(error)),
        };
        if let Some(delay) = late {
            pause(delay).await;
        }
        answer
    }
}

fn is_write(operation: &str) -> bool {
    matches!(operation, "put" | "part" | "complete" | "delete" | "copy")
}

fn nothing(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "there is nothing".into() }
}

fn failure(problem: &str) -> Error {
    Error::Generic { store: "faulty", source: problem.to_owned().into() }
}

#[expect(clippy::disallowed_methods, reason = "a late answer; tests run it on tokio's paused clock")]
async fn pause(delay: Duration) {
    tokio::time::sleep(delay).await;
}

/// A store that misbehaves by [`Faults`].
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl FaultyStore {
    /// Puts faults before a store.
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fault = self.faults.before("put", location).await?;
        if self.faults.ignores_conditions() {
            options.mode = PutMode::Overwrite;
        }
        self.faults.after(fault, self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.faults.before("begin", location).await?;
        let inner = self.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload { inner, location: location.clone(), faults: self.faults.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "head" } else { "get" };
        let fault = self.faults.before(operation, location).await?;
        let mut result = self.inner.get_opts(location, options).await?;
        if fault == Fault::None {
            return Ok(result);
        }
        let meta = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let content = result.bytes().await?;
        result = GetResult {
            payload: GetResultPayload::Stream(spoil(content, fault)),
            meta: meta.0,
            range: meta.1,
            attributes: meta.2,
            extensions: Default::default(),
        };
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, faults) = (Arc::clone(&self.inner), self.faults.clone());
        locations
            .and_then(move |location| {
                let (inner, faults) = (Arc::clone(&inner), faults.clone());
                async move {
                    let fault = faults.before("delete", &location).await?;
                    let one = futures::stream::once(async { Ok(location) }).boxed();
                    faults.after(
                        fault,
                        inner.delete_stream(one).next().await.unwrap_or_else(|| Err(failure("nothing was deleted"))),
                    )
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, faults, prefix) = (Arc::clone(&self.inner), self.faults.clone(), prefix.cloned());
        let listing = async move {
            faults.before("list", prefix.as_ref().unwrap_or(&Path::default())).await?;
            Ok::<_, Error>(inner.list(prefix.as_ref()))
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.before("list", prefix.unwrap_or(&Path::default())).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.faults.before("copy", to).await?;
        self.faults.after(fault, self.inner.copy_opts(from, to, options).await)
    }
}

/// What a read gives when it goes wrong.
fn spoil(content: Bytes, fault: Fault) -> BoxStream<'static, Result<Bytes>> {
    let half = content.len() / 2;
    let chunks = match fault {
        Fault::BreakOff => {
            vec![Ok(content.slice(..half)), Err(failure("the connection was closed within the content"))]
        }
        Fault::Damage => {
            let mut changed = content.to_vec();
            changed.iter_mut().skip(half).take(1).for_each(|byte| *byte ^= 1);
            vec![Ok(Bytes::from(changed))]
        }
        Fault::None | Fault::LoseAnswer => vec![Ok(content)],
    };
    futures::stream::iter(chunks).boxed()
}

#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    location: Path,
    faults: Faults,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.inner.put_part(data);
        let (faults, location) = (self.faults.clone(), self.location.clone());
        Box::pin(async move {
            let fault = faults.before("part", &location).await?;
            faults.after(fault, part.await)
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.faults.before("complete", &self.location).await?;
        self.faults.after(fault, self.inner.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.before("abort", &self.location).await?;
        self.inner.abort().await
    }
}
