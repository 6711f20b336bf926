//! Brings about what the plan says goes wrong.

use std::{collections::BTreeSet, fmt, time::Duration};

use madsim::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};
use tombola::{replica::Role, types::ReplicaId};

use super::{World, machine::Life};
use crate::{
    chance,
    disk::Part,
    plan::{FaultKind, Keep, Shape, When, text::words_of},
};

/// How long a slow node goes on between two pauses.
const SLOW_TURN: Duration = Duration::from_millis(2);

impl World {
    /// Each fault at its time, until the world is healed.
    pub(super) async fn bring_about(self) {
        let crashes = self.crash_at_points();
        let mut timed: Vec<_> = self.plan().faults.clone();
        timed.sort_by_key(|fault| match fault.when {
            When::At(at) => at,
            When::Hit { .. } => u64::MAX,
        });
        drop(tokio::spawn(crashes));
        for fault in timed {
            let When::At(at) = fault.when else { break };
            sleep_until(self.begun + Duration::from_millis(at)).await;
            if self.lock().is_healed {
                return;
            }
            drop(tokio::spawn(self.clone().bring_about_one(fault.what)));
        }
    }

    /// Cuts the power of nodes that come to the crash points of the plan: at once, within the poll that comes there.
    fn crash_at_points(&self) -> impl Future<Output = ()> + use<> {
        let (told, mut hits) = tokio::sync::mpsc::channel(64);
        let planned = self.plan().faults.iter().filter_map(|fault| match (&fault.when, &fault.what) {
            (When::Hit { point, nth }, FaultKind::Crash { node, keep, down_ms }) => {
                Some((point.clone(), *nth, *node, *keep, *down_ms))
            }
            _ => None,
        });
        let planned: Vec<_> = planned.collect();
        let world = self.clone();
        self.around.book.on_hit(Box::new(move |node, point, hit| {
            let due = planned.iter().find(|(at, nth, who, ..)| at == point && *nth == hit && *who == node);
            if let Some((.., keep, down_ms)) = due
                && !world.is_healed()
            {
                world.fence(node);
                let _ = told.try_send((node, point, *keep, *down_ms));
            }
        }));
        let world = self.clone();
        async move {
            while let Some((node, point, keep, down_ms)) = hits.recv().await {
                world.note(node, "crash at a point");
                world.tell(format_args!("crash point={point} node={node} down_ms={down_ms}"));
                world.lose_power(node, keep, down_ms);
            }
        }
    }

    /// Into the trace, what is to happen now and for how long: what comes of it stands in lines of its own.
    fn tell(&self, what: fmt::Arguments<'_>) {
        self.around.trace.event(self.begun.elapsed(), 0, "plan", what);
    }

    fn is_healed(&self) -> bool {
        self.lock().is_healed
    }

    fn fence(&self, id: ReplicaId) {
        let mut inner = self.lock();
        inner.machines.get_mut(&id).expect("every voter has one").fence(&self.around);
    }

    /// A machine loses power, and comes back after a while.
    fn lose_power(&self, id: ReplicaId, keep: Keep, down_ms: u64) {
        if self.lock().machines[&id].life.is_none() {
            return;
        }
        self.cut_power(id, keep);
        self.restart_at(id, down_ms);
    }

    fn restart_at(&self, id: ReplicaId, down_ms: u64) {
        self.lock().restarts.insert(id, Instant::now() + Duration::from_millis(down_ms.max(1)));
    }

    async fn bring_about_one(self, fault: FaultKind) {
        let nobody = ReplicaId(0);
        self.tell(format_args!("{}", words_of(&fault)));
        match fault {
            FaultKind::Crash { node, keep, down_ms } => {
                self.note(node, "crash");
                self.lose_power(node, keep, down_ms);
            }
            FaultKind::CrashMany { nodes, keep, down_ms } => {
                self.note(nobody, "crash of many");
                nodes.iter().for_each(|node| self.fence(*node));
                nodes.into_iter().for_each(|node| self.lose_power(node, keep, down_ms));
            }
            FaultKind::CrashInCommit { node, operations, keep, down_ms } => {
                self.crash_in_commit(node, operations, keep, down_ms).await;
            }
            FaultKind::Stop { node, down_ms } => self.stop(node, down_ms).await,
            FaultKind::PauseLeader { ms } => {
                let leader = self.leader().await.unwrap_or(ReplicaId(1));
                self.note(leader, "pause");
                self.pause(leader, ms).await;
            }
            FaultKind::Pause { node, ms } => {
                self.note(node, "pause");
                self.pause(node, ms).await;
            }
            FaultKind::Slow { node, more_ms, ms } => {
                self.note(node, "slow node");
                let until = Instant::now() + Duration::from_millis(ms);
                while Instant::now() < until && !self.is_healed() {
                    self.pause(node, more_ms).await;
                    sleep(SLOW_TURN).await;
                }
            }
            FaultKind::SlowDisk { node, more_ms, ms } => {
                self.note(node, "slow disk");
                let disk = self.lock().machines[&node].disk.clone();
                disk.set_slow(Duration::from_millis(more_ms));
                sleep(Duration::from_millis(ms)).await;
                disk.set_slow(Duration::ZERO);
            }
            FaultKind::DiskError { node, operation, nth } => {
                if !self.lock().is_healed {
                    self.note(node, "disk error");
                    self.lock().machines[&node].disk.fail(operation, nth);
                }
            }
            FaultKind::DiskFull { node, ms } => {
                self.note(node, "disk full");
                let disk = self.lock().machines[&node].disk.clone();
                disk.set_full(true);
                sleep(Duration::from_millis(ms)).await;
                disk.set_full(false);
            }
            FaultKind::Step { node, by_ms } => {
                self.note(node, "clock step");
                self.lock().machines[&node].clock.step(by_ms);
            }
            fault @ (FaultKind::Rot { .. } | FaultKind::LyingSync { .. } | FaultKind::LostDisk { .. }) => {
                self.damage(fault).await;
            }
            fault => self.disturb_network(fault).await,
        }
    }

    /// Power goes in the middle of the next commit.
    async fn crash_in_commit(&self, node: ReplicaId, operations: u32, keep: Keep, down_ms: u64) {
        let (told, mut cut) = tokio::sync::mpsc::channel(1);
        let world = self.clone();
        let disk = self.lock().machines[&node].disk.clone();
        disk.cut_power_in(
            operations,
            Box::new(move || {
                world.fence(node);
                let _ = told.try_send(());
            }),
        );
        if cut.recv().await.is_some() {
            self.note(node, "crash in a commit");
            self.around.book.mark("crash_in_commit");
            self.lose_power(node, keep, down_ms);
        }
    }

    /// A node is asked to stop, as a service manager does.
    async fn stop(&self, node: ReplicaId, down_ms: u64) {
        let handle = self.lock().machines[&node].handle();
        if let Some(handle) = handle {
            self.note(node, "stop");
            // It may lose power meanwhile; then nobody waits for it any more.
            let _ = tokio::time::timeout(Duration::from_secs(30), handle.stop()).await;
            self.lose_power(node, Keep::All, down_ms);
        }
    }

    async fn leader(&self) -> Option<ReplicaId> {
        let handles: Vec<_> = {
            let inner = self.lock();
            inner.machines.values().filter_map(|machine| Some((machine.id, machine.handle()?))).collect()
        };
        for (id, handle) in handles {
            let asked = tokio::time::timeout(Duration::from_millis(10), handle.status()).await;
            if let Ok(Ok(status)) = asked
                && status.replica.role == Role::Leader
            {
                return Some(id);
            }
        }
        None
    }

    async fn pause(&self, node: ReplicaId, ms: u64) {
        let place = {
            let mut inner = self.lock();
            let machine = inner.machines.get_mut(&node).expect("every voter has one");
            if machine.is_paused {
                return;
            }
            let place = machine.life.as_ref().map(|life: &Life| life.place);
            machine.is_paused = place.is_some();
            place
        };
        let Some(place) = place else { return };
        Handle::current().pause(place);
        sleep(Duration::from_millis(ms)).await;
        self.resume(node, place);
    }

    fn resume(&self, node: ReplicaId, place: madsim::task::NodeId) {
        let mut inner = self.lock();
        let machine = inner.machines.get_mut(&node).expect("every voter has one");
        if machine.is_paused && machine.life.as_ref().is_some_and(|life| life.place == place) {
            machine.is_paused = false;
            Handle::current().resume(place);
        }
    }

    /// Resumes whoever stands still.
    pub(super) fn resume_all(&self) {
        let paused: Vec<_> = {
            let inner = self.lock();
            let paused = inner.machines.values().filter(|machine| machine.is_paused);
            paused.filter_map(|machine| Some((machine.id, machine.life.as_ref()?.place))).collect()
        };
        paused.into_iter().for_each(|(id, place)| self.resume(id, place));
    }

    /// Damages a disk, if the atlas lets it.
    async fn damage(&self, fault: FaultKind) {
        let (FaultKind::Rot { node, .. } | FaultKind::LyingSync { node, .. } | FaultKind::LostDisk { node }) = fault
        else {
            return;
        };
        {
            let mut inner = self.lock();
            // Founding takes all founders: before it, no disk may be lost.
            if inner.is_healed || !self.around.book.is_founded() || !inner.atlas.book(node) {
                return;
            }
        }
        self.around.book.damaged(node);
        let disk = self.lock().machines[&node].disk.clone();
        match fault {
            FaultKind::Rot { at, down_ms, .. } => {
                self.note(node, "rot");
                // A store that was closed is believed more than one that was not: every other node is stopped before.
                let handle = self.lock().machines[&node].handle();
                if let Some(handle) =
                    handle.filter(|_| chance::number(at, "stopped before it rots", &[node.0]) % 2 == 0)
                {
                    let _ = tokio::time::timeout(Duration::from_secs(30), handle.stop()).await;
                }
                self.cut_power(node, Keep::All);
                let rotten = disk.rot(at);
                self.around.trace.event(self.begun.elapsed(), node.0, "rot", format_args!("{rotten:?}"));
                // Damage to exactly the newest commit may look like a commit that power cut short: see `storage`. What the
                // store cannot notice, nobody can; such a node does not come back.
                match rotten.part {
                    Part::Nothing | Part::Older => self.restart_at(node, down_ms),
                    Part::Newest | Part::Header => self.put_out(node),
                }
            }
            FaultKind::LyingSync { ms, .. } => {
                self.note(node, "lying sync");
                disk.lie(true);
                sleep(Duration::from_millis(ms)).await;
                self.cut_power(node, Keep::Nothing);
                self.put_out(node);
            }
            _ => {
                self.note(node, "lost disk");
                self.cut_power(node, Keep::All);
                disk.wipe();
                self.lock().machines.get_mut(&node).expect("every voter has one").is_emptied = true;
                self.restart_at(node, 500);
            }
        }
    }

    async fn disturb_network(&self, fault: FaultKind) {
        let network = &self.around.network;
        match fault {
            FaultKind::Cut { from, to, ms } => {
                self.note(from, "one-way cut");
                self.cut_for(&[(from, to)], ms).await;
            }
            FaultKind::Partition { shape: Shape::Flapping { node, every_ms }, ms } => {
                self.note(node, "flapping");
                let links: Vec<_> = self.others(node).flat_map(|other| [(node, other), (other, node)]).collect();
                let until = Instant::now() + Duration::from_millis(ms);
                while Instant::now() < until {
                    self.cut_for(&links, every_ms).await;
                    sleep(Duration::from_millis(every_ms.max(1))).await;
                }
            }
            FaultKind::Partition { shape, ms } => {
                self.note(ReplicaId(0), "partition");
                self.cut_for(&self.links_cut_by(&shape), ms).await;
            }
            FaultKind::Reset { one, other } => {
                self.note(one, "reset");
                network.reset(one, other);
            }
            FaultKind::Clog { from, to, ms } => {
                self.note(from, "clog");
                network.clog(from, to, true);
                sleep(Duration::from_millis(ms)).await;
                network.clog(from, to, false);
            }
            other => unreachable!("{other:?} is no fault of the network"),
        }
    }

    async fn cut_for(&self, links: &[(ReplicaId, ReplicaId)], ms: u64) {
        if self.is_healed() {
            return;
        }
        links.iter().for_each(|(from, to)| self.around.network.cut(*from, *to));
        sleep(Duration::from_millis(ms.max(1))).await;
        // Healing has ended the cuts of the core, and made the others last for ever.
        if !self.is_healed() {
            links.iter().for_each(|(from, to)| self.around.network.mend(*from, *to));
        }
    }

    fn others(&self, node: ReplicaId) -> impl Iterator<Item = ReplicaId> + use<> {
        (1..=self.plan().options.voters).map(ReplicaId).filter(move |other| *other != node)
    }

    fn links_cut_by(&self, shape: &Shape) -> Vec<(ReplicaId, ReplicaId)> {
        let voters = self.plan().options.voters;
        let pairs = (1..=voters).flat_map(|one| (1..=voters).map(move |other| (ReplicaId(one), ReplicaId(other))));
        pairs.filter(|(one, other)| one != other && !shape.joins(voters, *one, *other)).collect()
    }

    /// A random quorum of intact voters becomes faultless; what is wrong outside of it stays wrong.
    pub(super) fn heal(&self) {
        let core = self.choose_core();
        {
            let mut inner = self.lock();
            inner.is_healed = true;
            inner.core = core.clone();
            inner.restarts.clear();
            for machine in inner.machines.values() {
                if core.contains(&machine.id) {
                    machine.disk.heal();
                }
            }
        }
        self.resume_all();
        self.around.network.heal(Some(&core));
        self.leave_out(&core);
        let names: Vec<_> = core.iter().map(|id| format!("n{id}")).collect();
        self.around.trace.event(self.begun.elapsed(), 0, "heal", format_args!("{}", names.join(" ")));
        core.into_iter().for_each(|id| self.start(id));
    }

    /// What is outside of the core never gets better: it is off, or cut off, or hears and is not heard, or the other way
    /// round; one that leads must then be replaced.
    fn leave_out(&self, core: &BTreeSet<ReplicaId>) {
        let voters = (1..=self.plan().options.voters).map(ReplicaId);
        for out in voters.filter(|id| !core.contains(id)) {
            let (is_deaf, is_mute) = match chance::number(self.plan().seed, "out", &[out.0]) % 4 {
                0 => {
                    self.cut_power(out, Keep::All);
                    continue;
                }
                1 => (true, false),
                2 => (false, true),
                _ => (true, true),
            };
            for id in core {
                if is_deaf {
                    self.around.network.cut(*id, out);
                }
                if is_mute {
                    self.around.network.cut(out, *id);
                }
            }
        }
    }

    fn choose_core(&self) -> BTreeSet<ReplicaId> {
        let inner = self.lock();
        let voters = inner.machines.len();
        let damaged = inner.atlas.damaged();
        let mut intact: Vec<_> = inner.machines.keys().copied().filter(|id| !damaged.contains(id)).collect();
        intact.sort_by_key(|id| chance::number(self.plan().seed, "core", &[id.0]));
        // Founding takes all founders.
        let quorum = if self.around.book.is_founded() { voters / 2 + 1 } else { voters };
        let more = chance::number(self.plan().seed, "core size", &[]) as usize % (intact.len() - quorum + 1);
        intact.into_iter().take(quorum + more).collect()
    }
}
