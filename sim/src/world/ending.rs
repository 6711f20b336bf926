//! The end of a run: is it alive, and what is left of it after the last power cycle?

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tombola::{
    api::{Consistency, NodeStatus, Request},
    pool::{Action, Actor, PoolId, Query, RequestKey},
    runtime::NodeHandle,
    types::{Millis, ReplicaId},
};

use super::World;
use crate::{
    chance,
    check::live::{Progress, judge},
    plan::Keep,
    verdict::{Failure, FailureKind},
};

/// How long a core without faults may take to elect, decide and agree.
const ALIVE_MAX: Duration = Duration::from_secs(30);
/// How often the world asks.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl World {
    /// Within [`ALIVE_MAX`] one of these nodes leads, a fresh write and a fresh read are answered through each of them, and
    /// all have applied the same.
    pub(super) async fn check_alive(&self, when: &str, core: &BTreeSet<ReplicaId>) -> Result<(), Failure> {
        let until = Instant::now() + ALIVE_MAX;
        let mut progress = Progress::default();
        loop {
            self.look()?;
            self.ask(core, &mut progress).await;
            match judge(core, &progress) {
                Ok(()) => return Ok(()),
                Err(violation) if Instant::now() >= until => {
                    let detail = format!("{when}: {}", violation.detail);
                    let (kind, checker) = (FailureKind::Liveness, violation.checker.to_owned());
                    return Err(Failure { kind, checker, detail });
                }
                Err(_) => sleep(ASK_EVERY).await,
            }
        }
    }

    async fn ask(&self, core: &BTreeSet<ReplicaId>, progress: &mut Progress) {
        for id in core {
            let Some(handle) = self.lock().machines[id].handle() else { continue };
            if !progress.written.contains(id) && self.write(*id, &handle).await {
                progress.written.insert(*id);
            }
            let read = handle.read(Query::Pool(PoolId::default_pool()), Consistency::Linearizable, ASK_EVERY * 5);
            if !progress.read.contains(id) && matches!(timeout(ASK_EVERY * 6, read).await, Ok(Ok(_))) {
                progress.read.insert(*id);
            }
        }
        progress.statuses.clear();
        for id in core {
            if let Some(status) = self.status(*id).await {
                progress.statuses.insert(*id, status.replica);
            }
        }
    }

    async fn status(&self, id: ReplicaId) -> Option<NodeStatus> {
        let handle = self.lock().machines[&id].handle()?;
        timeout(ASK_EVERY, handle.status()).await.ok()?.ok()
    }

    /// A draw of the world's own, written down like any client's.
    async fn write(&self, id: ReplicaId, handle: &NodeHandle) -> bool {
        let now = self.begun.elapsed();
        let unique = chance::number(self.plan().seed, "world's key", &[id.0, now.as_micros() as u64]).to_be_bytes();
        let mut tail = [0; 10];
        tail[..8].copy_from_slice(&unique);
        let time = handle.read(Query::Time, Consistency::Stale, ASK_EVERY).await.map_or(Millis(0), |read| read.now);
        let key = RequestKey::new(time, tail);
        let (pool, actor, action) = (PoolId::default_pool(), Actor::default(), Action::Draw { count: 1 });
        let request = Request { pool, key: Some(key), actor, action };
        let call = self.around.book.invoke_request(&request);
        let answer = handle.submit(request, ASK_EVERY * 10).await;
        self.around.book.tell_request(call, &answer);
        answer.is_ok()
    }

    /// All machines lose power in the same instant, and those that can start again, without faults.
    pub(super) async fn cycle_power(&self) -> Result<(), Failure> {
        let ids: Vec<_> = self.lock().machines.keys().copied().collect();
        self.note(ReplicaId(0), "power cycle");
        for id in &ids {
            let mut inner = self.lock();
            let machine = inner.machines.get_mut(id).expect("every voter has one");
            if machine.life.is_some() {
                machine.fence(&self.around);
            }
        }
        for id in &ids {
            let number = chance::number(self.plan().seed, "power cycle", &[id.0]);
            self.cut_power(*id, [Keep::All, Keep::Nothing, Keep::Some, Keep::Torn][number as usize % 4]);
        }
        sleep(Duration::from_millis(10)).await;
        self.around.network.heal(None);
        let intact: BTreeSet<_> = {
            let mut inner = self.lock();
            let damaged = inner.atlas.damaged().clone();
            for id in &damaged {
                inner.machines.get_mut(id).expect("every voter has one").is_out = true;
            }
            inner.machines.values().for_each(|machine| {
                machine.disk.heal();
                machine.slowness.set(Duration::ZERO);
            });
            inner.core = ids.iter().copied().filter(|id| !damaged.contains(id)).collect();
            inner.core.clone()
        };
        intact.iter().for_each(|id| self.start(*id));
        self.check_alive("after the last power cycle", &intact).await
    }

    /// What is left, once all that were started agree.
    pub(super) async fn take_survivors(&self) -> Result<(), Failure> {
        let until = Instant::now() + ALIVE_MAX;
        loop {
            self.look()?;
            let mut left = Vec::new();
            for id in self.core() {
                left.extend(self.status(id).await.map(|status| (id, status.replica.digests)));
            }
            let index = left.first().map(|(_, digests)| digests.index);
            if left.len() == self.core().len() && left.iter().all(|(_, digests)| Some(digests.index) == index) {
                left.into_iter().for_each(|(id, digests)| self.around.book.survived(id, digests));
                return Ok(());
            }
            if Instant::now() >= until {
                let detail = format!("after the last power cycle those who are left do not agree: {left:?}");
                return Err(Failure { kind: FailureKind::Liveness, checker: "live".to_owned(), detail });
            }
            sleep(ASK_EVERY).await;
        }
    }
}
