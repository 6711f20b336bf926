//! How replicas that never met found a cluster. Sans-I/O: inputs are `handle_*`, outputs are polled.
//!
//! Founders exchange their disk ids. Whoever knows all of them binds itself, durably, to exactly these founders
//! ([`FoundingMessage::Prepared`]); whoever hears of a binding that names its own disk joins it. When all are known to be
//! bound alike, each writes the same founding snapshot, whose hash names the cluster from then on.
//!
//! Two steps, since one would not do: if a founder lost its disk between telling one peer and telling another, the two
//! would found different clusters under one name. A binding cannot be taken back, so at most one list of founders is ever
//! founded; and a founder that comes back with an emptied disk finds itself bound with another one, and is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::{
    durable::{Founders, FoundingWrite, HardState, Identity, Snapshot, SnapshotMeta, WriteSet},
    hooks,
    pool::{Limits, StateMachine},
    types::{DiskId, Index, ReplicaId, Term},
};

/// Ticks between two greetings.
const GREETING_TICKS: u32 = 4;

/// What founders say to each other. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoundingMessage {
    /// This is my disk; I am bound to nothing yet.
    Hello {
        /// The sender's disk.
        disk: DiskId,
    },
    /// I am bound, durably, to found with these founders and no others.
    Prepared {
        /// Who they are.
        founders: Founders,
    },
    /// I have founded, with these founders. Answers both of the others.
    Founded {
        /// Who they are.
        founders: Founders,
    },
}

/// What founding wants done, in order.
#[expect(clippy::large_enum_variant, reason = "there are few of them, once in the life of a cluster")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingOutput {
    /// Send to a peer; may be lost.
    Send {
        /// The peer.
        to: ReplicaId,
        /// What to say.
        message: FoundingMessage,
    },
    /// Make durable, then call [`Founding::handle_persisted`].
    Persist(WriteSet),
}

/// Why this node cannot be a founder. It must stop; nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingRefused {
    /// The others know this replica with another disk.
    #[error(
        "replica {peer} knows replica {replica} with another disk: an emptied founder cannot come back under its old id. \
         Bring its data directory back, or replace it under a new id; if the cluster never was ready, empty the data \
         directories of all founders and start again"
    )]
    OtherDisk {
        /// This replica.
        replica: ReplicaId,
        /// Who says so.
        peer: ReplicaId,
    },
    /// Founders differ on who they are.
    #[error(
        "replica {peer} is founding with other nodes, disks or limits than this one. Nothing is decided yet: make the \
         cluster section equal in all configuration files, empty the data directories of all founders and start again"
    )]
    OtherFounders {
        /// Who differs.
        peer: ReplicaId,
    },
    /// A peer whose cluster is founded already does not accept this node, which is not founded, as one of it.
    #[error("replica {peer}, which is founded, does not accept this node: {reason}")]
    NotAccepted {
        /// The peer.
        peer: ReplicaId,
        /// Its reason.
        reason: String,
    },
}

/// How far a founder has come.
#[derive(Debug)]
enum Stage {
    /// Collects disks.
    Gathering,
    /// Its binding is on its way to the disk.
    Preparing(Founders),
    /// Bound.
    Prepared(Founders),
    /// The founding snapshot is on its way to the disk.
    Writing(Snapshot),
    /// Founded.
    Founded(Snapshot),
}

/// A founder until it has founded.
#[derive(Debug)]
pub struct Founding {
    /// Who it is.
    identity: Identity,
    /// The limits that it was configured with.
    limits: Limits,
    /// Every founder, itself included.
    wanted: BTreeSet<ReplicaId>,
    /// The disks that it knows of.
    disks: BTreeMap<ReplicaId, DiskId>,
    /// The founders known to be bound as it is.
    prepared: BTreeSet<ReplicaId>,
    stage: Stage,
    ticks: u32,
    outputs: VecDeque<FoundingOutput>,
}

impl Founding {
    /// `founders` are the configured voters, this one included; `prepared` is what the store is bound to.
    ///
    /// # Errors
    /// If the store is bound to other founders than those configured.
    pub fn new(
        identity: Identity,
        founders: &[ReplicaId],
        limits: Limits,
        prepared: Option<Founders>,
    ) -> Result<Self, FoundingRefused> {
        let mut founding = Self {
            identity,
            limits,
            wanted: founders.iter().copied().collect(),
            disks: BTreeMap::from([(identity.replica, identity.disk)]),
            prepared: BTreeSet::new(),
            stage: Stage::Gathering,
            ticks: 0,
            outputs: VecDeque::new(),
        };
        if let Some(prepared) = prepared {
            founding.check(identity.replica, &prepared)?;
            founding.stage = Stage::Prepared(prepared);
        }
        founding.advance();
        Ok(founding)
    }

    /// A tick: greets now and then, since messages are lost.
    pub fn handle_tick(&mut self) {
        if self.ticks.is_multiple_of(GREETING_TICKS) {
            let message = match &self.stage {
                Stage::Gathering | Stage::Preparing(_) => FoundingMessage::Hello { disk: self.identity.disk },
                Stage::Prepared(founders) => FoundingMessage::Prepared { founders: founders.clone() },
                Stage::Writing(snapshot) => FoundingMessage::Prepared { founders: snapshot.meta.founders.clone() },
                Stage::Founded(snapshot) => FoundingMessage::Founded { founders: snapshot.meta.founders.clone() },
            };
            let peers = self.wanted.iter().filter(|peer| **peer != self.identity.replica);
            self.outputs.extend(peers.map(|&to| FoundingOutput::Send { to, message: message.clone() }));
        }
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// A peer, one of the founders, said something.
    ///
    /// # Errors
    /// If this node cannot be a founder.
    pub fn handle_message(&mut self, from: ReplicaId, message: FoundingMessage) -> Result<(), FoundingRefused> {
        if from == self.identity.replica || !self.wanted.contains(&from) {
            return Ok(());
        }
        match message {
            FoundingMessage::Hello { disk } => {
                self.disks.insert(from, disk);
            }
            FoundingMessage::Prepared { founders } => {
                self.check(from, &founders)?;
                if let Stage::Gathering = self.stage {
                    self.prepare(founders);
                }
                self.prepared.insert(from);
            }
            FoundingMessage::Founded { founders } => {
                self.check(from, &founders)?;
                if let Stage::Gathering | Stage::Prepared(_) = self.stage {
                    self.write(founders);
                }
            }
        }
        self.advance();
        Ok(())
    }

    /// The last [`FoundingOutput::Persist`] is durable.
    pub fn handle_persisted(&mut self) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Gathering) {
            Stage::Preparing(founders) => Stage::Prepared(founders),
            Stage::Writing(snapshot) => Stage::Founded(snapshot),
            other => other,
        };
        self.ticks = 0;
        self.advance();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<FoundingOutput> {
        self.outputs.pop_front()
    }

    /// Founded, durably: the founding snapshot.
    pub fn founded(&self) -> Option<&Snapshot> {
        match &self.stage {
            Stage::Founded(snapshot) => Some(snapshot),
            _ => None,
        }
    }

    /// The founders that are waited for.
    pub fn missing(&self) -> Vec<ReplicaId> {
        let is_here = |peer: &ReplicaId| match self.stage {
            Stage::Gathering | Stage::Preparing(_) => self.disks.contains_key(peer),
            Stage::Prepared(_) => self.prepared.contains(peer) || *peer == self.identity.replica,
            Stage::Writing(_) | Stage::Founded(_) => true,
        };
        self.wanted.iter().copied().filter(|peer| !is_here(peer)).collect()
    }

    /// Takes the next step, if all is there for it.
    fn advance(&mut self) {
        match &self.stage {
            Stage::Gathering if self.wanted.iter().all(|founder| self.disks.contains_key(founder)) => {
                let disks = self.wanted.iter().map(|founder| (*founder, self.disks[founder])).collect();
                self.prepare(Founders { cluster: self.identity.cluster, limits: self.limits, disks });
            }
            Stage::Prepared(founders) if self.missing().is_empty() => self.write(founders.clone()),
            _ => {}
        }
    }

    fn prepare(&mut self, founders: Founders) {
        self.persist(FoundingWrite::Prepare(founders.clone()), None);
        self.stage = Stage::Preparing(founders);
    }

    fn write(&mut self, founders: Founders) {
        let snapshot = founding_snapshot(founders);
        let commit = snapshot.meta.index;
        let hard_state = HardState { term: snapshot.meta.term, vote: ReplicaId(0), commit };
        self.persist(FoundingWrite::Found(snapshot.clone()), Some(hard_state));
        self.stage = Stage::Writing(snapshot);
    }

    fn persist(&mut self, step: FoundingWrite, hard_state: Option<HardState>) {
        let write = WriteSet { hard_state, promise: true, founding: Some(step), ..WriteSet::default() };
        self.outputs.push_back(FoundingOutput::Persist(write));
    }

    /// Are these founders that this node can found with?
    fn check(&self, from: ReplicaId, founders: &Founders) -> Result<(), FoundingRefused> {
        let alike = founders.cluster == self.identity.cluster && founders.disks.keys().eq(self.wanted.iter());
        if !alike {
            return Err(FoundingRefused::OtherFounders { peer: from });
        }
        if founders.disks.get(&self.identity.replica) != Some(&self.identity.disk) && !hooks::is_planted("m25") {
            hooks::sometimes("id_reuse_refused");
            return Err(FoundingRefused::OtherDisk { replica: self.identity.replica, peer: from });
        }
        match &self.stage {
            Stage::Preparing(ours) | Stage::Prepared(ours) if ours != founders => {
                Err(FoundingRefused::OtherFounders { peer: from })
            }
            Stage::Gathering if founders.limits != self.limits => Err(FoundingRefused::OtherFounders { peer: from }),
            _ => Ok(()),
        }
    }
}

/// How a founded node answers a founder that has not heard yet.
pub fn answer(founders: &Founders, message: &FoundingMessage) -> Option<FoundingMessage> {
    match message {
        FoundingMessage::Hello { .. } | FoundingMessage::Prepared { .. } => {
            Some(FoundingMessage::Founded { founders: founders.clone() })
        }
        FoundingMessage::Founded { .. } => None,
    }
}

/// The founding snapshot: a pure function of the founders, so all write the same bytes.
fn founding_snapshot(founders: Founders) -> Snapshot {
    use sha2::Digest;
    let body = StateMachine::founding(founders.limits).snapshot().encode();
    let meta = SnapshotMeta {
        index: Index::FOUNDING,
        term: Term(1),
        voters: founders.disks.keys().copied().collect(),
        founders,
        body_bytes: body.len() as u64,
        body_sha256: sha2::Sha256::digest(&body).into(),
    };
    Snapshot { meta, body: vec![body.into()] }
}
