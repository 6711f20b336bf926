//! Clients: what a plan has them do, done by the real retry machine over the real wire; and the door of a node.
//!
//! **A client** is its calls, each a task. A call goes through [`tombola::client::retry`] as the native client's do, and the
//! application is told one of three endings: an answer, surely not applied, or unknown. Its keys hold cluster time as the
//! client has learnt it from replies. What it asked and was told goes into the history: each *send* is a call of the history
//! with an interval of its own, told what that one send was told; and when the machine says that a call is surely not
//! applied, so are all its sends, which the ledger then must not have.
//!
//! **The line** (`seal`, `line`) stands where QUIC is in production, over a network that loses, repeats, reorders and
//! corrupts. It is as much of a connection as that promises and no more: bytes come as they were sent or not at all, a
//! request comes once at most, and a connection does not outlive the node's life. It mends no loss: what is lost is a
//! connection that stalls, and the call's time runs out.
//!
//! **Deliberately absent**: a cluster without a time has its time from the native client's own clock; here a client asks
//! until the cluster has one.

pub mod asking;
pub mod clock;
pub mod seal;

#[cfg(madsim)]
mod caller;
#[cfg(madsim)]
mod line;
#[cfg(madsim)]
mod serving;
#[cfg(madsim)]
mod twists;

#[cfg(all(madsim, test))]
mod tests;

#[cfg(madsim)]
pub use self::{
    caller::{probe, run_all},
    serving::serve,
};

use tombola::pool::Actor;

/// Who a client is, as its certificate would say.
pub fn actor(client: u64) -> Actor {
    format!("client-{client}").parse().expect("it is short")
}
