//! What a runtime does with snapshots, stepped by hand: it encodes and stages views, sends bodies chunk by chunk, and hands
//! what has arrived to the replica. One staging at a time on a disk, one transfer at a time out of a replica.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tombola::{
    durable::{CHUNK_BYTES, Snapshot, SnapshotMeta, Staging},
    pool::{Restorer, StateMachine},
    replica::{Input, RaftBody, RaftMessage, Role, TakeSnapshot},
    types::{Index, ReplicaId},
};

use crate::{
    cluster::{Cluster, Node},
    disk::{Staged, is_whole},
    observe::Seen,
};

/// How many chunks a body has, or one less.
const CHUNKS: usize = 4;

/// A view that is being staged.
pub struct Taking {
    take: TakeSnapshot,
    chunks: Vec<Bytes>,
}

impl Taking {
    pub fn new(take: TakeSnapshot) -> Self {
        let body = take.handle.chunks(CHUNK_BYTES).collect::<Vec<_>>().concat();
        let chunks = body.chunks(body.len() / CHUNKS + 1).map(Bytes::copy_from_slice).collect();
        Self { take, chunks }
    }

    fn meta(&self) -> SnapshotMeta {
        let body = self.chunks.concat();
        self.take.meta(body.len() as u64, Sha256::digest(&body).into())
    }
}

/// A snapshot that has arrived, whole, and waits to be handed to the replica.
pub struct Arrived {
    from: ReplicaId,
    message: RaftMessage,
    machine: Box<StateMachine>,
}

macro_rules! counts {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name { $($(#[$doc])* pub $field: usize,)* }

        impl $name {
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }

            pub fn all(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

counts! {
    /// How often what happened to snapshots.
    Counts {
        /// Own ones that are durable.
        taken,
        /// Handed out to be sent.
        sent,
        /// Transfers given up on the way.
        aborted,
        /// Transfers that went on where one before had stopped.
        resumed,
        /// Peers' that a replica goes on from.
        installed,
        /// Of no use: older than what is committed.
        stale,
        /// Of no use but for their commit: the entries were there.
        fast_forwarded,
        /// Crashes with an own one partly staged.
        crashed_staging,
        /// Crashes with an own one queued to be flipped in.
        crashed_flipping,
        /// Crashes with a peer's partly staged, or whole and not handed over.
        crashed_receiving,
        /// Crashes between install and restore: it is durable, and nobody was told.
        crashed_installed,
        /// Crashes with an install queued that did not make it to the disk.
        crashed_installing,
    }
}

/// What a step of a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The next chunk arrives.
    Arrives,
    /// One that is there already arrives again.
    ArrivesAgain,
    /// Nothing arrives.
    Lost,
    /// The sender gives up, and reports so.
    GivenUp,
    /// The next chunk arrives; but the sender hears nothing of it, gives up, and reports so.
    ArrivesUnheard,
}

impl Cluster {
    /// Asked for a snapshot: a disk that is busy with a peer's turns it away.
    pub(crate) fn begin_taking(&mut self, id: ReplicaId, take: TakeSnapshot) {
        let is_receiving = self.nodes.values().any(|node| node.is_sending_to(id));
        let node = self.node(id);
        assert!(node.taking.is_none(), "line 21: one snapshot is taken at a time");
        if is_receiving || node.arrived.is_some() || node.disk.has_queued_snapshot() {
            self.input(id, Input::SnapshotGivenUp);
            return;
        }
        let staging = Staging::Own { index: take.handle.index() };
        node.disk.staged = Some(Staged { staging, chunks: Vec::new() });
        node.taking = Some(Taking::new(take));
    }

    /// Stages one chunk of a replica's own snapshot.
    pub fn stage(&mut self, id: ReplicaId) {
        let node = self.node(id);
        let (Some(taking), Some(staged)) = (&node.taking, &mut node.disk.staged) else { return };
        staged.chunks.push(taking.chunks[staged.chunks.len()].clone());
        if staged.chunks.len() == taking.chunks.len() {
            let meta = taking.meta();
            node.taking = None;
            self.observer.see(id, &Seen::Snapshot { index: meta.index, body_sha256: meta.body_sha256 });
            self.input(id, Input::SnapshotTaken { meta });
        }
    }

    /// Brings the transfer out of `from`, if there is one, a step further.
    pub fn transfer(&mut self, from: ReplicaId, chunk: Chunk) {
        let Some((to, message)) = self.nodes[&from].sending.clone() else { return };
        let RaftBody::Snapshot { meta } = &message.body else { panic!("not a snapshot: {message:?}") };
        let image = &self.nodes[&from].disk.image;
        if chunk == Chunk::GivenUp || image.snapshot.meta != *meta {
            return self.end_transfer(from, to, false);
        }
        // A leader of an earlier term has nothing to say to whoever listens to a later one: two that take turns in
        // throwing away what the other has staged would never end.
        let is_outdated = |other: &RaftMessage| other.term > message.term;
        if self.nodes[&to].receiving.as_ref().is_some_and(is_outdated) {
            return self.end_transfer(from, to, false);
        }
        let body = image.snapshot.body.clone();
        if chunk == Chunk::Lost || self.is_cut(from, to) || !self.node(to).may_receive() {
            return;
        }
        let has_arrived = self.receive(to, &message, meta, &body, chunk == Chunk::ArrivesAgain);
        if has_arrived || chunk == Chunk::ArrivesUnheard {
            self.end_transfer(from, to, chunk != Chunk::ArrivesUnheard);
        }
    }

    /// Stages the next chunk of a peer's snapshot. `true` if it is whole now, and waits to be handed over.
    fn receive(
        &mut self,
        to: ReplicaId,
        message: &RaftMessage,
        meta: &SnapshotMeta,
        body: &[Bytes],
        again: bool,
    ) -> bool {
        let node = self.nodes.get_mut(&to).expect("a replica of the cluster");
        let of_it = Staging::Received(meta.clone());
        if node.disk.staged.as_ref().is_none_or(|staged| staged.staging != of_it) {
            node.disk.staged = Some(Staged { staging: of_it, chunks: Vec::new() });
            node.receiving = Some(message.clone());
        } else if node.receiving.as_ref() != Some(message) {
            node.receiving = Some(message.clone());
            self.counts.resumed += 1;
        }
        let staged = node.disk.staged.as_mut().expect("it was just there");
        let next = staged.chunks.len();
        let number = if again { next.saturating_sub(1) } else { next };
        if number == next && number < body.len() {
            staged.chunks.push(body[number].clone());
        }
        if staged.chunks.len() < body.len() {
            return false;
        }
        assert!(is_whole(meta, &staged.chunks), "chunks arrive whole, in order");
        let mut restorer = Restorer::default();
        staged.chunks.iter().for_each(|chunk| restorer.push(chunk).expect("a peer's snapshot can be read"));
        let machine = Box::new(restorer.finish().expect("a peer's snapshot can be restored"));
        node.arrived = Some(Arrived { from: message.from, message: message.clone(), machine });
        true
    }

    /// The leader's newest snapshot arrives, whole, at a replica that perhaps has no need of it. raft-rs sends none such; but
    /// a leader may, at any time, and what is late or comes twice looks like it.
    pub fn send_unasked(&mut self, from: ReplicaId, to: ReplicaId) {
        let Snapshot { meta, body } = self.nodes[&from].disk.image.snapshot.clone();
        let term = self.replica(from).term();
        let node = &self.nodes[&to];
        let is_free = from != to && node.may_receive() && node.receiving.is_none();
        if is_free && self.replica(from).role() == Role::Leader && meta.index > Index::FOUNDING {
            let message = RaftMessage { to, from, term, body: RaftBody::Snapshot { meta: meta.clone() } };
            while !self.receive(to, &message, &meta, &body, false) {}
        }
    }

    fn end_transfer(&mut self, from: ReplicaId, to: ReplicaId, arrived: bool) {
        self.node(from).sending = None;
        self.counts.aborted += usize::from(!arrived);
        self.input(from, Input::SnapshotReport { to, arrived });
    }

    /// Hands a snapshot that has arrived to the replica.
    pub fn hand_over(&mut self, id: ReplicaId) {
        let Some(Arrived { from, message, machine }) = self.node(id).arrived.take() else { return };
        let before = self.replica(id).status().commit;
        self.input(id, Input::Snapshot { from, message, machine });
        let node = &self.nodes[&id];
        if node.disk.staged.is_none() {
            let is_news = node.replica.as_ref().is_some_and(|replica| replica.status().commit > before);
            self.counts.fast_forwarded += usize::from(is_news);
            self.counts.stale += usize::from(!is_news);
        }
    }

    /// Is there anything that [`Cluster::stage`], [`Cluster::transfer`] or [`Cluster::hand_over`] could do?
    pub fn is_busy_with_snapshots(&self, id: ReplicaId) -> bool {
        let node = &self.nodes[&id];
        let may_be_sent = node.sending.as_ref().is_some_and(|(to, _)| {
            !self.is_cut(id, *to) && (self.nodes[to].may_receive() || self.nodes[to].taking.is_some())
        });
        node.taking.is_some() || node.arrived.is_some() || may_be_sent
    }

    /// Counts what a crash interrupts; to be called before it.
    pub(crate) fn count_crash(&mut self, id: ReplicaId, kept: usize) {
        let (node, counts) = (&self.nodes[&id], &mut self.counts);
        let installed = |write: &tombola::durable::WriteSet| {
            matches!(write.snapshot, Some(tombola::durable::SnapshotWrite::Installed { .. }))
        };
        let queued = &node.disk.queued;
        let install = queued.iter().position(installed);
        let flip = queued.iter().position(|write| write.snapshot.is_some() && !installed(write));
        counts.crashed_staging += usize::from(node.taking.is_some());
        counts.crashed_flipping += usize::from(flip.is_some());
        counts.crashed_installed += usize::from(install.is_some_and(|at| at < kept));
        counts.crashed_installing += usize::from(install.is_some_and(|at| at >= kept));
        counts.crashed_receiving += usize::from(install.is_none() && node.receiving.is_some());
    }
}

impl Node {
    pub fn is_sending_to(&self, id: ReplicaId) -> bool {
        self.sending.as_ref().is_some_and(|(to, _)| *to == id)
    }

    /// May a peer's chunk be staged here? Not beside a snapshot of its own, nor beside one that is being handed over.
    fn may_receive(&self) -> bool {
        let is_own = |staged: &Staged| matches!(staged.staging, Staging::Own { .. });
        let is_busy = self.arrived.is_some() || self.disk.has_queued_snapshot();
        self.replica.is_some() && !is_busy && !self.disk.staged.as_ref().is_some_and(is_own)
    }
}
