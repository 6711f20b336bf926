//! Thin adapters on [`crate::runtime::NodeHandle`]: gRPC and the native protocol.
