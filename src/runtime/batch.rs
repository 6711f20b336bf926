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
        let measured = Self { bytes: codec::encoded_len(&command), draws: usize::from(command.draws()), command };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        pool::{Action, Actor, CatalogItem, KeyOrigin, PoolId, RequestKey, Stock, Weight},
        runtime::{
            admission::Admission,
            clock::Tick,
            requests::Waiter,
            view::{Leader, View},
        },
        types::{ReplicaId, Term},
    };

    fn command(number: u32, action: Action) -> Command {
        let mut unique = [0; 10];
        unique[6..].copy_from_slice(&number.to_be_bytes());
        let (pool, actor) = (PoolId::default_pool(), Actor::default());
        Command { pool, key: RequestKey::new(Millis(1), unique), origin: KeyOrigin::Caller, actor, action }
    }

    fn draw(number: u32, count: u16) -> Command {
        command(number, Action::Draw { count })
    }

    fn catalog(number: u32, items: u32) -> Command {
        let item =
            |n| CatalogItem { item: format!("{n:064}").parse().unwrap(), stock: Stock::Unlimited, weight: Weight(1) };
        let items = (0..items).map(item).collect();
        command(number, Action::ImportCatalog { items, draw_seq: crate::pool::DrawSeq(0) })
    }

    /// Gathers from this node's and a peer's requests until nothing is left; the batches' commands.
    fn batches(own: Vec<Command>, peers: Vec<Command>) -> Vec<Vec<Command>> {
        let (mut requests, mut forwards) = (Requests::default(), Forwards::default());
        let view = View { term: Term(1), leader: Leader::Here };
        requests.handle_view(view);
        forwards.handle_view(view);
        let admission = Arc::new(Admission::default());
        for command in own {
            let permit = admission.enter(0).unwrap();
            let waiter = Waiter { reply: oneshot::channel().0, deadline: Tick(1), permit };
            requests.accept(Measured::new(command).unwrap(), waiter);
        }
        for (id, command) in (0..).zip(peers) {
            forwards.offer(ReplicaId(2), ProposalId(id), command).unwrap();
        }
        let mut numbers = Numbers::after(u64::MAX);
        std::iter::from_fn(|| {
            let batch = gather(&mut requests, &mut forwards, &mut numbers);
            (!batch.is_empty()).then(|| batch.into_iter().map(|(_, command)| command).collect())
        })
        .collect()
    }

    #[test]
    fn own_and_forwarded_requests_take_turns() {
        let batches = batches((0..3).map(|n| draw(n, 1)).collect(), (10..12).map(|n| draw(n, 1)).collect());
        assert_eq!(batches, [[0, 10, 1, 11, 2].map(|n| draw(n, 1)).to_vec()]);
    }

    #[test]
    fn a_batch_holds_so_many_commands() {
        let lens: Vec<_> = batches((0..5_000).map(|n| draw(n, 1)).collect(), Vec::new()).iter().map(Vec::len).collect();
        assert_eq!(lens, [BATCH_COMMANDS_MAX, 5_000 - BATCH_COMMANDS_MAX]);
    }

    #[test]
    fn a_batch_holds_so_many_draws() {
        let lens: Vec<_> =
            batches((0..20).map(|n| draw(n, 1_000)).collect(), Vec::new()).iter().map(Vec::len).collect();
        assert_eq!(lens, [BATCH_DRAWS_MAX / 1_000, 20 - BATCH_DRAWS_MAX / 1_000]);
    }

    #[test]
    fn a_batch_holds_so_many_bytes_and_every_batch_decodes() {
        let batches = batches((0..3).map(|n| catalog(n, 6_000)).collect(), vec![draw(9, 1)]);
        assert_eq!(
            batches.iter().map(Vec::len).collect::<Vec<_>>(),
            [3, 1],
            "two catalogs and the draw, then the third"
        );
        for commands in batches {
            let batch = Batch { version: Batch::VERSION, time: Millis(1), entropy: Entropy([1; 32]), commands };
            Batch::decode(&batch.encode()).unwrap();
        }
    }

    #[test]
    fn what_fits_into_no_batch_is_refused_before_it_waits() {
        assert!(Measured::new(catalog(1, 20_000)).is_err());
        assert!(Measured::new(draw(1, 0)).is_err());
    }
}
