//! Thin adapters on [`crate::runtime::NodeHandle`]: gRPC, the native protocol, and HTTP for operators.
//!
//! Nothing is decided here. An adapter turns what arrives into the words of [`crate::api`] and [`crate::pool`], asks
//! the node, and turns the answer back; what the types of those words refuse (names, keys, ranges) is refused here,
//! with the code MALFORMED, and everything else is the node's to judge. Each adapter bounds what one client can hold:
//! streams, calls in flight, bytes of a message, time.
//!
//! - [`grpc`]: one tonic server with both services, health and reflection;
//! - [`legacy`]: the predecessor's `rewardpool.RewardPoolService`, bit for bit;
//! - [`v1`]: `tombola.v1`, keyed and unary;
//! - [`native`]: the protocol of our own client, over QUIC;
//! - [`admin`]: health, status and metrics over HTTP;
//! - [`health`]: whether this node is alive and of use, for all who ask;
//! - [`drain`]: the word to stop;
//! - [`status`]: the one mapping of refusals and failures to gRPC;
//! - [`proto`]: the generated code.
//!
//! What is deliberately absent: roles (whoever is let in may do everything; the certificate's name goes into the log),
//! and any state of its own.

mod accept;
pub mod admin;
mod caller;
pub mod deadline;
pub mod drain;
pub mod grpc;
pub mod health;
pub mod legacy;
pub mod native;
pub mod proto;
mod replies;
pub mod status;
pub mod v1;
