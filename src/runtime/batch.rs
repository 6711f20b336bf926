//! From what waits to one log entry.
//!
//! A batch is gathered from this node's own requests and from those that peers forwarded, in turn, within the limits of
//! one entry. Nothing here waits: when to gather is decided by the disk (see `serving`), never by a timer.

use super::{FlowLimits, clock::Now, forwards::Forwards, requests::Requests};
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
        let measured = Self { bytes: command.encoded_len(), draws: usize::from(command.draws()), command };
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
        self.fits_into(command, BATCH_COMMANDS_MAX, BATCH_DRAWS_MAX, BATCH_BYTES_MAX)
    }

    /// The first fits into any share.
    fn fits_share(&self, command: &Measured, flow: &FlowLimits, share: usize) -> bool {
        let (commands_max, bytes_max) = (flow.entry_commands_max / share, flow.entry_bytes_max / share);
        let fits_share = || self.fits_into(command, commands_max, BATCH_DRAWS_MAX / share, bytes_max);
        self.fits(command) && (self.commands.is_empty() || fits_share())
    }

    fn fits_into(&self, command: &Measured, commands_max: usize, draws_max: usize, bytes_max: usize) -> bool {
        self.commands.len() < commands_max
            && self.draws + command.draws <= draws_max
            && self.bytes + command.bytes <= bytes_max
    }

    fn push(&mut self, id: ProposalId, command: Measured) {
        self.bytes += command.bytes;
        self.draws += command.draws;
        self.commands.push((id, command.command));
    }
}

/// What goes into one entry.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The commands, in order.
    pub commands: Vec<(ProposalId, Command)>,
    /// The entry's length.
    pub bytes: usize,
}

/// Takes what fits into one entry, or half of one, oldest first, alternating between this node's requests and its peers'.
pub(super) fn gather(
    requests: &mut Requests,
    forwards: &mut Forwards,
    numbers: &mut Numbers,
    flow: &FlowLimits,
    is_halved: bool,
    now: Now,
) -> Gathered {
    let share = if is_halved { 2 } else { 1 };
    let mut batch = Filling::default();
    let commands_max = (flow.entry_commands_max / share).min(BATCH_COMMANDS_MAX);
    batch.commands.reserve(commands_max.min(requests.queued() + forwards.queued()));
    loop {
        let before = batch.commands.len();
        if requests.peek(now).is_some_and(|command| batch.fits_share(command, flow, share)) {
            let id = numbers.next();
            batch.push(id, requests.propose(id, now));
        }
        if forwards.peek().is_some_and(|command| batch.fits_share(command, flow, share)) {
            let id = numbers.next();
            batch.push(id, forwards.propose(id));
        }
        if batch.commands.len() == before {
            return Gathered { commands: batch.commands, bytes: batch.bytes };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        pool::{Action, Actor, CatalogItem, KeyOrigin, PoolId, RequestKey, Stock, Weight},
        runtime::{
            admission::Admission,
            clock::Tick,
            pace::Pace,
            requests::Waiter,
            server_keys::ServerKeys,
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
        batches_of(&FlowLimits::default(), false, own, peers)
    }

    fn batches_of(flow: &FlowLimits, is_halved: bool, own: Vec<Command>, peers: Vec<Command>) -> Vec<Vec<Command>> {
        let mut requests = Requests::new(ServerKeys::new(ReplicaId(1), 7), Pace::new(Duration::from_millis(50)), 7);
        requests.handle_time(Millis(1));
        let mut forwards = Forwards::default();
        let view = View { term: Term(1), leader: Leader::Here };
        requests.handle_view(view);
        forwards.handle_view(view);
        let admission = Arc::new(Admission::default());
        for command in own {
            let command = Measured::new(command).unwrap();
            let permit = admission.enter(&Measured { bytes: 0, ..command.clone() }).unwrap();
            let waiter = Waiter { reply: oneshot::channel().0.into(), deadline: Tick(1), permit };
            requests.accept(command, waiter, Now::default());
        }
        for (id, command) in (0..).zip(peers) {
            forwards.offer(ReplicaId(2), ProposalId(id), command).unwrap();
        }
        let mut numbers = Numbers::after(u64::MAX);
        std::iter::from_fn(|| {
            let batch = gather(&mut requests, &mut forwards, &mut numbers, flow, is_halved, Now::default()).commands;
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
    fn half_a_batch_holds_half_as_much_and_one_of_any_length() {
        let flow = FlowLimits::default();
        let lens = |own| batches_of(&flow, true, own, Vec::new()).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens((0..5_000).map(|n| draw(n, 1)).collect())[..2], [BATCH_COMMANDS_MAX / 2; 2]);
        assert_eq!(lens((0..20).map(|n| draw(n, 1_000)).collect()), [8, 8, 4]);
        assert_eq!(lens(vec![catalog(1, 10_000), draw(2, 1), draw(3, 1)]), [1, 2]);
    }

    #[test]
    fn small_limits_make_small_batches_and_none_of_nothing() {
        let lens = |flow: FlowLimits, is_halved, own| {
            batches_of(&flow, is_halved, own, Vec::new()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        let draws = |count| (0..count).map(|n| draw(n, 1)).collect::<Vec<_>>();
        let one = FlowLimits { entry_commands_max: 1, ..FlowLimits::default() };
        assert_eq!(lens(one, false, draws(3)), [1; 3]);
        assert_eq!(lens(one, true, draws(3)), [1; 3]);
        let few = FlowLimits { entry_commands_max: 4, ..FlowLimits::default() };
        assert_eq!(lens(few, false, draws(6)), [4, 2]);
        let short = FlowLimits { entry_bytes_max: 0, ..FlowLimits::default() };
        assert_eq!(lens(short, false, draws(3)), [1; 3]);
        let endless = FlowLimits { entry_commands_max: usize::MAX, entry_bytes_max: usize::MAX, ..one };
        assert_eq!(lens(endless, false, draws(5_000)), [BATCH_COMMANDS_MAX, 5_000 - BATCH_COMMANDS_MAX]);
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
