//! From what waits to one log entry.
//!
//! A batch is gathered from this node's own requests and from those that peers forwarded, in turn, within the limits of
//! one entry. Nothing here waits: when to gather is decided by the disk (see `serving`), never by a timer.

use super::{forwards::Forwards, requests::Requests};
use crate::{
    codec,
    pool::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BATCH_DRAWS_MAX, Batch, Command},
    replica::ProposalId,
    types::{Entropy, Millis},
};

/// A command that keeps the rules of form and the fixed limits, measured once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// The command.
    pub command: Command,
    /// Its length, encoded.
    pub bytes: usize,
    /// The draws it asks for.
    pub draws: usize,
}

impl Measured {
    /// Checks and measures a command. The error says which rule it breaks.
    pub fn new(command: Command) -> Result<Self, String> {
        command.check()?;
        let measured = Self { bytes: codec::encoded_len(&command), draws: command.draws(), command };
        if Filling::default().fits(&measured) {
            Ok(measured)
        } else {
            Err(format!("the request has {} bytes, more than one log entry can hold: split it", measured.bytes))
        }
    }
}

/// Chooses the ids of proposals: no two are equal, in this incarnation or (with a random start) in another.
#[derive(Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    /// Numbers that follow on a random one.
    pub fn after(nonce: u64) -> Self {
        Self(nonce)
    }

    /// The next.
    pub fn next(&mut self) -> ProposalId {
        self.0 = self.0.wrapping_add(1);
        ProposalId(self.0)
    }
}

/// A batch that fills.
#[derive(Debug)]
struct Filling {
    commands: Vec<(ProposalId, Command)>,
    bytes: usize,
    draws: usize,
}

impl Default for Filling {
    /// An empty batch, which has a length too.
    fn default() -> Self {
        let empty = Batch { version: Batch::VERSION, time: Millis(0), entropy: Entropy([0; 32]), commands: Vec::new() };
        Self { commands: Vec::new(), bytes: codec::encoded_len(&empty), draws: 0 }
    }
}

impl Filling {
    fn fits(&self, command: &Measured) -> bool {
        self.commands.len() < BATCH_COMMANDS_MAX
            && self.draws + command.draws <= BATCH_DRAWS_MAX
            && self.bytes + command.bytes <= BATCH_BYTES_MAX
    }

    fn push(&mut self, id: ProposalId, command: Measured) {
        self.bytes += command.bytes;
        self.draws += command.draws;
        self.commands.push((id, command.command));
    }
}

/// Takes what fits into one entry, oldest first, alternating between this node's requests and its peers'.
pub(super) fn gather(
    requests: &mut Requests,
    forwards: &mut Forwards,
    numbers: &mut Numbers,
) -> Vec<(ProposalId, Command)> {
    let mut batch = Filling::default();
    loop {
        let before = batch.commands.len();
        if requests.peek().is_some_and(|command| batch.fits(command)) {
            let id = numbers.next();
            batch.push(id, requests.propose(id));
        }
        if forwards.peek().is_some_and(|command| batch.fits(command)) {
            let id = numbers.next();
            batch.push(id, forwards.propose(id));
        }
        if batch.commands.len() == before {
            return batch.commands;
        }
    }
}
