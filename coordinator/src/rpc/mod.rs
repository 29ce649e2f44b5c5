//! The edge: services decode a message, send an event, await the reply. They decide nothing.

mod run;
mod worker;

pub(crate) use run::RunRpc;
pub(crate) use worker::WorkerRpc;

use crate::driver::DriverError;
use crate::run::Rejected;
use bloctrain_proto::status::{Kind, status};
use tonic::Status;

/// The status of a refused request.
fn refused(error: &DriverError) -> Status {
    let kind = match error {
        DriverError::Stopped(_) => Kind::Internal,
        DriverError::Rejected(rejected) => match rejected {
            Rejected::UnknownWorker(_) | Rejected::UnknownRun(_) => Kind::NotFound,
            Rejected::Stale(_) | Rejected::Committed(_) => Kind::Stale,
            Rejected::WrongOutput(_) | Rejected::BadSubmission(_) => Kind::Invalid,
            Rejected::Arithmetic { .. } => Kind::Mismatch,
        },
    };
    status(kind, error.to_string())
}

fn malformed(error: &bloctrain_proto::convert::ConvertError) -> Status {
    status(Kind::Invalid, error.to_string())
}

fn missing(what: &str) -> Status {
    status(Kind::Invalid, format!("the message needs a {what}"))
}
