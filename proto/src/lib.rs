//! Wire protocol of bloctrain: generated messages and services, conversions, and the table of errors.
//!
//! Protobuf types stay at the edges: what goes further in has been converted by [`convert`].

pub mod convert;
pub mod dial;
pub mod status;

/// Generated code of `bloctrain.v1`.
#[expect(missing_docs, clippy::doc_markdown, reason = "documented in the .proto files")]
#[allow(clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("bloctrain.v1");
}

/// Descriptors of all messages and services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest message that either side takes, in bytes. Bulk data never passes through the protocol.
pub const MESSAGE_LIMIT: usize = 16 << 20;
