//! The one table between what went wrong and gRPC status codes.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// What the receiver of an error can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mend the request.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The two programs do not fit each other.
    Mismatch,
    /// The caller's lease or registration has ended.
    Stale,
    /// Try again.
    Unavailable,
    /// A limit is reached: try again later, or ask for less.
    Exhausted,
    /// No valid token.
    Unauthenticated,
    /// A valid token that does not allow this.
    Forbidden,
    /// A defect.
    Internal,
}

const TABLE: [(Kind, Code); 9] = [
    (Kind::Invalid, Code::InvalidArgument),
    (Kind::NotFound, Code::NotFound),
    (Kind::Mismatch, Code::FailedPrecondition),
    (Kind::Stale, Code::Aborted),
    (Kind::Unavailable, Code::Unavailable),
    (Kind::Exhausted, Code::ResourceExhausted),
    (Kind::Unauthenticated, Code::Unauthenticated),
    (Kind::Forbidden, Code::PermissionDenied),
    (Kind::Internal, Code::Internal),
];

/// Longest message of a status, in characters: it travels in a header, and may repeat what the caller sent.
const MAX_MESSAGE: usize = 1_000;

/// By this a coordinator marks its own refusals. What comes without it was made by something on the way, such as a
/// proxy, a load balancer or a broken connection, whatever its code, and may pass.
const MARK: &str = "bloctrain-refusal";

/// The status of an error, marked as a coordinator's own; a long message is cut.
pub fn status(kind: Kind, message: impl Into<String>) -> Status {
    let code = TABLE.iter().find(|(known, _)| *known == kind).map_or(Code::Internal, |(_, code)| *code);
    let message: String = message.into();
    let message = match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{} ...", &message[..end]),
        None => message,
    };
    let mut marked = MetadataMap::new();
    marked.insert(MARK, MetadataValue::from_static("1"));
    Status::with_metadata(code, message, marked)
}

/// What a status means; what no coordinator marked as its own comes from somewhere on the way and may pass.
pub fn kind(status: &Status) -> Kind {
    let is_own = status.metadata().contains_key(MARK);
    let known = TABLE.iter().find(|(_, code)| is_own && *code == status.code());
    known.map_or(Kind::Unavailable, |(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_both_ways() {
        for (known, _) in TABLE {
            assert_eq!(kind(&status(known, "text")), known);
        }
        assert_eq!(kind(&Status::deadline_exceeded("late")), Kind::Unavailable);
        for (_, code) in TABLE {
            assert_eq!(kind(&Status::new(code, "made by a proxy")), Kind::Unavailable, "{code:?} without the mark");
        }
        assert!(status(Kind::Invalid, "ä".repeat(1 << 20)).message().len() < 4_096);
    }
}
