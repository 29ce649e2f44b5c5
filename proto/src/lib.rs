//! Wire protocol of bloctrain: generated messages and services, conversions, and the table of errors.
//!
//! Code and descriptors are made from the `.proto` files by `tests/generated.rs`, which also says when they are out of
//! date: a build has no protocols to compile.
//!
//! Protobuf types stay at the edges: what goes further in has been converted by [`convert`].

pub mod convert;
pub mod credentials;
pub mod dial;
pub mod status;

/// Generated code of `bloctrain.v1`.
#[expect(missing_docs, clippy::doc_markdown, reason = "documented in the .proto files")]
#[allow(clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod v1 {
    include!("generated/bloctrain.v1.rs");
}

/// Generated code of KEDA's `externalscaler`.
#[expect(missing_docs, clippy::doc_markdown, reason = "documented in the .proto file")]
#[allow(clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
pub mod externalscaler {
    include!("generated/externalscaler.rs");
}

/// Descriptors of KEDA's protocol, for gRPC reflection.
pub const SCALER_DESCRIPTORS: &[u8] = include_bytes!("generated/externalscaler.bin");

/// Descriptors of all messages and services of our own, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

/// Largest message that either side takes, in bytes. Bulk data never passes through the protocol.
pub const MESSAGE_LIMIT: usize = 16 << 20;
