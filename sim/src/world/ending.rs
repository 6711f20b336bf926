//! The end of a run: is it alive, and what is left of it after the last power cycle?

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tombola::{api::Vitals, replica::Status, types::ReplicaId};

use super::World;
use crate::{
    chance,
    check::live::{Core, Probe, WITHIN},
    clients,
    plan::Keep,
    verdict::{Failure, FailureKind},
};

/// The clients that ask after healing, and after the last power cycle: nobody else's numbers.
pub(super) const PROBER: u64 = 1_000_001;
const LAST_PROBER: u64 = 1_000_002;
/// How often the world asks.
const ASK_EVERY: Duration = Duration::from_millis(200);

impl World {
    /// In time one of these nodes leads, a fresh write and then a read are answered, and all have applied the same.
    pub(super) async fn check_alive(&self, when: &str, core: &BTreeSet<ReplicaId>, prober: u64) -> Result<(), Failure> {
        let until = Instant::now() + WITHIN;
        let mut seen = Core { probe: self.probe(core, prober).await?, ..Core::default() };
        loop {
            self.look()?;
            seen.shown.clear();
            for id in core {
                seen.shown.insert(*id, self.status(*id).await);
            }
            match seen.check() {
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

    /// Once nobody asks for anything any more, nothing waits in any node of the core.
    pub(super) async fn check_idle(&self) -> Result<(), Failure> {
        let until = Instant::now() + WITHIN;
        for id in self.core() {
            loop {
                self.look()?;
                let Some(vitals) = self.vitals(id).await else { break };
                match self.around.book.idle(id, &vitals) {
                    Ok(()) => break,
                    Err(violation) if Instant::now() >= until => return Err(violation.into()),
                    Err(_) => sleep(ASK_EVERY).await,
                }
            }
        }
        Ok(())
    }

    async fn vitals(&self, id: ReplicaId) -> Option<Vitals> {
        let handle = self.lock().machines[&id].handle()?;
        timeout(ASK_EVERY, handle.vitals()).await.ok()?.ok()
    }

    /// A client asks the core; the world looks after its machines meanwhile.
    async fn probe(&self, core: &BTreeSet<ReplicaId>, prober: u64) -> Result<Probe, Failure> {
        let around = self.around.clone();
        let nodes: Vec<_> = core.iter().copied().collect();
        let mut probing = tokio::spawn(async move {
            clients::probe(&around.plan, &around.network, &around.book, prober, &nodes, WITHIN).await
        });
        loop {
            match timeout(ASK_EVERY, &mut probing).await {
                Ok(probe) => return Ok(probe.expect("a client does not panic")),
                Err(_) => self.look()?,
            }
        }
    }

    async fn status(&self, id: ReplicaId) -> Option<Status> {
        let handle = self.lock().machines[&id].handle()?;
        let status = timeout(ASK_EVERY, handle.status()).await.ok()?.ok()?;
        Some(status.replica)
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
            inner.machines.values().for_each(|machine| machine.disk.heal());
            inner.core = ids.iter().copied().filter(|id| !damaged.contains(id)).collect();
            inner.core.clone()
        };
        intact.iter().for_each(|id| self.start(*id));
        self.check_alive("after the last power cycle", &intact, LAST_PROBER).await
    }

    /// What is left, once all that were started agree.
    pub(super) async fn take_survivors(&self) -> Result<(), Failure> {
        let until = Instant::now() + WITHIN;
        loop {
            self.look()?;
            let mut left = Vec::new();
            for id in self.core() {
                left.extend(self.status(id).await.map(|status| (id, status.digests)));
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
