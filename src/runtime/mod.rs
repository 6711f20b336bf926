//! The node: everything around one replica that needs a task, a channel or a clock.
//!
//! **What it promises.** A caller that submits a command under a key hears, within its timeout, one of three things: the
//! outcome, which is final and replicated; *surely not applied*; or *unknown*, after which only the same command under the
//! same key may be sent again. A linearizable read is answered with a state that is at least as new as anything answered
//! before, or refused in time. Whatever ends a node, everybody who waits hears one of these.
//!
//! **How.** One task owns the replica ([`Node::start`]; `founding` until the cluster is founded, then `serving`): it takes
//! one input, drains what the replica wants done, and waits. `inputs` is the only place where it waits. Another task owns
//! the store (`persist`), so that the loop goes on while the disk works; what takes long is done in tasks of its own (`beside`,
//! `snapshots`, `verifier`). [`NodeHandle`] is the way in; `admission` bounds what waits; `introductions` says which peers
//! are heard; `metrics` is what can be seen from outside. What is decided about a request before it is in the log is
//! sans-I/O and tested without a runtime:
//! `requests` (who owns what until when), `pace` (how long that takes, and whether too much waits), `forwards` (what peers
//! brought), `batch` (what becomes one entry), `laggards`, `transfers`, `catalog`, `quorum_time`.
//!
//! **The same source runs in production and in the simulator.** So every `select!` is biased, channels are mpsc and
//! oneshot, nothing but the production store starts a thread, and wall time, entropy and the length of a tick come from the
//! [`Environment`].
//!
//! **Absent on purpose**: the transport's queues and links (`transport`), authentication (`server`), retries of callers
//! (`client`), leases, and any cache of answers: the key table of the replicated state is the only one.

mod admission;
mod answer;
mod batch;
mod beside;
mod catalog;
mod clock;
mod environment;
mod flow;
mod forwards;
mod founding;
mod handle;
mod histogram;
mod inputs;
mod introductions;
mod laggards;
mod metrics;
mod node;
mod pace;
mod peer;
mod persist;
mod quorum_time;
mod reads;
mod requests;
mod server_keys;
mod serving;
mod snapshots;
mod station;
mod store;
mod transfers;
mod verifier;
mod view;

pub use admission::{PENDING_BYTES_MAX, PENDING_COMMANDS_MAX, PENDING_PER_CLIENT_MAX, RETRIES_MAX};
pub use clock::ImplausibleClock;
pub use environment::{Environment, NoEntropy};
pub use flow::FlowLimits;
pub use handle::{NodeHandle, TIMEOUT_MAX};
pub use introductions::Hello;
pub use metrics::Metrics;
pub use node::{Node, NodeConfig, Stopped};
pub use peer::{PeerFrame, PeerMessage};
pub use persist::{Persist, PersistError};
pub use snapshots::{BodyMessage, SNAPSHOT_BYTES_PER_S, ShipmentId};
pub use store::StoreThread;
