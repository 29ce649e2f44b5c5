//! The edge: services decode a message, send an event, await the reply. They decide nothing.

mod gate;
mod run;
mod scaler;
mod worker;

pub(crate) use gate::Active;
pub use gate::Gate;
pub use run::RunRpc;
pub(super) use run::MAX_PAGE;
pub(crate) use scaler::ScalerRpc;
pub use worker::WorkerRpc;

use crate::drive::DriverError;
use crate::schedule::Rejected;
use bloctrain_proto::status::{Kind, status};
use tonic::Status;

/// The status of a refused request.
pub(super) fn refused(error: &DriverError) -> Status {
    let kind = match error {
        // Another coordinator may answer.
        DriverError::Stopped(_) => Kind::Unavailable,
        DriverError::Rejected(rejected) => match rejected {
            Rejected::UnknownWorker(_) | Rejected::UnknownRun(_) | Rejected::Expired(_) => Kind::NotFound,
            Rejected::Stale(_) | Rejected::Outdated(_) | Rejected::Committed(_) => Kind::Stale,
            Rejected::WrongOutput(_)
            | Rejected::Impossible { .. }
            | Rejected::BadSubmission(_)
            | Rejected::Backend(_)
            | Rejected::ForeignKey { .. }
            | Rejected::Ended(_)
            | Rejected::GoesOn(_) => Kind::Invalid,
            Rejected::Full(_) => Kind::Exhausted,
            Rejected::Arithmetic { .. } | Rejected::OtherStore { .. } => Kind::Mismatch,
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

/// Longest name of anything.
const MAX_NAME: usize = 128;

/// Refuses a field that is too long.
pub(super) fn short(field: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(status(
            Kind::Invalid,
            format!("`{field}` must be a text of at most {MAX_NAME} bytes without control characters"),
        ));
    }
    Ok(())
}
