//! Between messages and domain types.

use crate::v1;
use bloctrain_shared::Digest;
use bloctrain_shared::task::{ObjectRef, Stage, Task, TaskId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message that says nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct ConvertError(String);

impl ConvertError {
    /// A message in which something is wrong.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// A value as the JSON text of a message field.
///
/// # Panics
/// Never for the plain data types of this project, all of which serialise.
pub fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data with string keys always serialises")
}

/// The value of a JSON field.
///
/// # Errors
/// When the text is not such a value.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, ConvertError> {
    serde_json::from_str(text).map_err(|error| ConvertError(error.to_string()))
}

impl From<TaskId> for v1::TaskId {
    fn from(id: TaskId) -> Self {
        Self { block: id.block, stage: id.stage.name().to_owned(), part: id.part, replica: id.replica }
    }
}

impl TryFrom<v1::TaskId> for TaskId {
    type Error = ConvertError;

    fn try_from(id: v1::TaskId) -> Result<Self, ConvertError> {
        let stage = Stage::ALL.into_iter().find(|stage| stage.name() == id.stage);
        let stage = stage.ok_or_else(|| ConvertError(format!("there is no stage `{}`", id.stage)))?;
        Ok(Self { block: id.block, stage, part: id.part, replica: id.replica })
    }
}

impl From<ObjectRef> for v1::ObjectRef {
    fn from(object: ObjectRef) -> Self {
        Self { key: object.key, digest: object.digest.as_bytes().to_vec(), bytes: object.bytes }
    }
}

impl TryFrom<v1::ObjectRef> for ObjectRef {
    type Error = ConvertError;

    fn try_from(object: v1::ObjectRef) -> Result<Self, ConvertError> {
        let bytes: [u8; 32] = object.digest.try_into().map_err(|_| ConvertError("a digest has 32 bytes".into()))?;
        Ok(Self { key: object.key, digest: Digest::from_bytes(bytes), bytes: object.bytes })
    }
}

/// A task with its lease as a message.
pub fn to_grant(task: Task, lease_epoch: u64) -> v1::Grant {
    v1::Grant {
        lease_epoch,
        run: task.run,
        task: Some(task.id.into()),
        submission: Some(task.submission.into()),
        work_json: to_json(&task.work),
        work: None,
    }
}

/// The task and the lease epoch of a message.
///
/// # Errors
/// When a part is missing or malformed.
pub fn from_grant(grant: v1::Grant) -> Result<(Task, u64), ConvertError> {
    let missing = |what: &str| ConvertError(format!("a grant needs a {what}"));
    let id = grant.task.ok_or_else(|| missing("task"))?.try_into()?;
    let submission = grant.submission.ok_or_else(|| missing("submission"))?.try_into()?;
    Ok((Task { id, run: grant.run, submission, work: from_json(&grant.work_json)? }, grant.lease_epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bloctrain_damage::{Allowance, each};
    use bloctrain_shared::label::LabelMap;
    use bloctrain_shared::metric::Confusion;
    use bloctrain_shared::stage::validate;
    use bloctrain_shared::task::{Output, Progress, Report, Source, Work};
    use prost::Message;

    fn task() -> Task {
        let object = ObjectRef { key: "runs/r/spec.json".into(), digest: Digest::of(b"spec"), bytes: 4 };
        let work = Work::Validate(validate::Work {
            shard: 2,
            classes: LabelMap::all(3),
            weights: object.clone(),
            source: Source::Images,
        });
        let id = TaskId { block: 2, stage: Stage::Validate, part: 2, replica: 3 };
        Task { id, run: "r".into(), submission: object, work }
    }

    #[test]
    fn a_grant_survives_the_wire() {
        let task = task();
        assert_eq!(from_grant(to_grant(task.clone(), 9)), Ok((task.clone(), 9)));
        let mut broken = to_grant(task, 9);
        broken.work_json = "{".into();
        assert!(from_grant(broken).is_err());
    }

    /// What a coordinator reads of workers, and they of it, down to the values within.
    #[test]
    fn damaged_messages() {
        const ALLOWANCE: Allowance = Allowance { least: 1 << 16, each: 64 };
        let (task, mut confusion) = (task(), Confusion::new(3));
        confusion.add(1, 2);
        let output = Output::Validate(validate::Output { confusion });
        let report = Report {
            task: task.id,
            lease_epoch: 9,
            seconds: 0.5,
            inputs: Some(task.work.identity()),
            result: Ok(output),
        };
        let complete = v1::CompleteRequest { worker: 3, run: "r".into(), report_json: to_json(&report) };
        each("reports", &[complete.encode_to_vec()], ALLOWANCE, |bytes| {
            v1::CompleteRequest::decode(bytes).is_ok_and(|request| from_json::<Report>(&request.report_json).is_ok())
        });
        each("grants", &[to_grant(task.clone(), 9).encode_to_vec()], ALLOWANCE, |bytes| {
            v1::Grant::decode(bytes).is_ok_and(|grant| from_grant(grant).is_ok())
        });
        let heartbeat = v1::HeartbeatRequest {
            worker: 3,
            run: "r".into(),
            task: Some(task.id.into()),
            lease_epoch: 9,
            progress_json: to_json(&Progress { done: 5, total: 9, ..Progress::default() }),
        };
        each("heartbeats", &[heartbeat.encode_to_vec()], ALLOWANCE, |bytes| {
            let request = v1::HeartbeatRequest::decode(bytes);
            request.is_ok_and(|request| {
                request.task.is_some_and(|task| TaskId::try_from(task).is_ok())
                    && from_json::<Progress>(&request.progress_json).is_ok()
            })
        });
        let holding = v1::Holding { run: "r".into(), task: Some(task.id.into()), work_digest: vec![7; 32] };
        let register = v1::RegisterRequest {
            name: "w".into(),
            backend: "cpu".into(),
            holding: Some(holding),
            ..Default::default()
        };
        each("registrations", &[register.encode_to_vec()], ALLOWANCE, |bytes| {
            v1::RegisterRequest::decode(bytes).is_ok()
        });
    }
}
