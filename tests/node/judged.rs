//! Callers of whole nodes through faults, and everything that they were told judged by the model and the checkers: the
//! ledger is what the disks have in the end.

use std::sync::{Arc, Mutex};

use tombola::{
    api::{Consistency, Failure, NotApplied, Request},
    durable::RecoveredState,
    pool::{Action, Actor, Batch, Command, KeyOrigin, Limits, Query, RequestKey, Stock},
    runtime::NodeHandle,
    types::{Index, ReplicaId},
};
use tombola_sim::check::{Ask, CallId, History, Incarnation, Moment, Report, Told};

use crate::world::*;

/// What callers did and saw, by one clock.
#[derive(Clone)]
struct Book(Arc<Mutex<(History, u64)>>);

impl Book {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((History::new(Limits::default()), 0))))
    }

    fn write<T>(&self, what: impl FnOnce(&mut History, Moment) -> T) -> T {
        let (history, clock) = &mut *self.0.lock().expect("no panic holds it");
        *clock += 1;
        what(history, Moment(*clock))
    }

    fn invoke(&self, ask: Ask) -> CallId {
        self.write(|history, now| history.invoke(now, ask))
    }

    fn tell(&self, call: CallId, told: Told) {
        self.write(|history, now| history.tell(now, call, told));
    }

    /// Sends a request to one node after the other until it is decided.
    async fn decide(&self, handles: &[NodeHandle], key: RequestKey, action: Action) {
        let (origin, actor) = (KeyOrigin::Caller, Actor::default());
        let command = Command { pool: pool(), key, origin, actor: actor.clone(), action: action.clone() };
        for handle in handles.iter().cycle() {
            let call = self.invoke(Ask::Request(command.clone()));
            let request = Request { pool: pool(), key: Some(key), actor: actor.clone(), action: action.clone() };
            match handle.submit(request, BRIEF).await {
                Ok(answered) => return self.tell(call, Told::Outcome(answered.outcome)),
                Err(Failure::NotApplied(NotApplied::Malformed(why))) => panic!("{why}"),
                // The node is gone: what it took along may have been applied.
                Err(Failure::NotApplied(NotApplied::Draining)) => tokio::time::sleep(TICK).await,
                Err(Failure::NotApplied(_)) => self.tell(call, Told::NotApplied),
                Err(Failure::Unknown { .. }) => {}
            }
        }
    }

    /// Asks a node once; a read that finds no quorum has no answer.
    async fn read(&self, handle: &NodeHandle, query: Query, consistency: Consistency) {
        let ask = match consistency {
            Consistency::Linearizable => Ask::Read(query.clone()),
            Consistency::Stale => Ask::StaleRead(query.clone()),
        };
        let call = self.invoke(ask);
        if let Ok(read) = handle.read(query, consistency, BRIEF).await {
            self.tell(call, Told::Read(read));
        }
    }

    /// One caller's business: requests, retries at other nodes, a key used twice, reads here and there.
    async fn play(self, number: u16, handles: Vec<NodeHandle>) {
        for round in 0..6 {
            let key = key(number);
            let action = match (number + round) % 3 {
                0 => Action::Claim { item: "gold".parse().expect("a legal id"), quantity: 1 + u32::from(round) },
                _ => Action::Draw { count: 1 + round },
            };
            self.decide(&handles, key, action.clone()).await;
            let reader = &handles[usize::from(round) % handles.len()];
            self.read(reader, Query::Pool(pool()), Consistency::Linearizable).await;
            self.read(reader, Query::Outcome(pool(), key), Consistency::Stale).await;
            let action = if round % 2 == 0 { action } else { Action::Draw { count: 99 } };
            self.decide(&handles[1..], key, action).await;
        }
    }

    /// Takes what a node has in the end: where it says it stands, and the log on its disk up to there.
    fn take_end(&self, id: ReplicaId, digests: tombola::pool::Digests, state: RecoveredState) {
        let RecoveredState::Founded(log) = state else { panic!("{id} was founded") };
        let life = Incarnation { replica: id, number: 1 };
        self.write(|history, now| {
            history.restored(life, log.truncated.0);
            for entry in log.entries.iter().filter(|entry| entry.index <= digests.index) {
                history.applied(life, entry);
                // The catalog is the cluster's own request.
                let commands = Batch::decode(&entry.data).map_or(Vec::new(), |batch| batch.commands);
                for command in commands.into_iter().filter(|command| command.origin == KeyOrigin::Server) {
                    history.invoke(now, Ask::Request(command));
                }
            }
            history.digested(life, digests);
            history.survived(id, digests);
        });
    }
}

/// Ends all nodes at once, when they have come equally far, and has everything judged.
async fn verdict(mut world: World, book: Book) -> Report {
    world.heal();
    let ids = world.running_nodes();
    let digests = eventually("all have applied the same", async || {
        let mut all = Vec::new();
        for id in &ids {
            all.push(status(world.node(*id)).await.replica.digests);
        }
        all.windows(2).all(|pair| pair[0].index == pair[1].index).then_some(all)
    })
    .await;
    for (id, digests) in ids.iter().zip(digests) {
        world.crash(*id).await;
        let (state, _) = world.disk(*id).begin_incarnation();
        book.take_end(*id, digests, state);
    }
    let history = Arc::into_inner(book.0).expect("the callers are done").into_inner().expect("no panic holds it").0;
    history.finish().unwrap_or_else(|violation| panic!("{violation}"))
}

#[tokio::test]
async fn callers_of_three_nodes_through_loss_and_crashes_are_told_what_the_model_says() {
    let catalog = [item("gold", Stock::Finite(40), 1), item("mud", Stock::Unlimited, 9)];
    let mut world = World::running(3, &catalog).await;
    let book = Book::new();
    world.disturb(9, 7);
    let mut callers = Vec::new();
    for number in 0..12 {
        let handles: Vec<_> = world.running_nodes().into_iter().map(|id| world.node(id).clone()).collect();
        let handles = handles.iter().cycle().skip(usize::from(number) % 3).take(3).cloned().collect();
        callers.push(tokio::spawn(book.clone().play(number, handles)));
        if number == 5 {
            let leader = world.leader().await;
            world.crash(leader).await;
            world.start(leader);
        }
    }
    for caller in callers {
        tokio::time::timeout(NEVER, caller).await.expect("all is decided some day").expect("it does not panic");
    }
    let report = verdict(world, book).await;
    assert!(report.entries as u64 > Index::FOUNDING.0 && report.executed > 12 * 6, "{report:?}");
    assert!(report.outcomes >= 12 * 12 && report.reads > 12 * 6, "{report:?}");
}
