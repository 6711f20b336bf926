//! The code generated from `proto/`, committed in `proto/gen` and kept in step by `tests/proto_drift.rs`.

/// The predecessor's service.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod rewardpool {
    include!("../../proto/gen/rewardpool.rs");
}

/// Package `tombola.v1`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod v1 {
    include!("../../proto/gen/tombola.v1.rs");
}

/// The encoded descriptors of both, comments included: what reflection tells.
pub const DESCRIPTORS: &[u8] = include_bytes!("../../proto/gen/descriptors.bin");
