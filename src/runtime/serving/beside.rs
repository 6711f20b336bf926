//! A node that serves, and what is done beside its loop.

use super::Serving;
use crate::{
    replica::Checkpoint,
    runtime::{
        Environment, Stopped,
        beside::Done,
        peer::PeerMessage,
        snapshots::{BodyMessage, Own, Step},
    },
    transport::Transport,
    types::ReplicaId,
};

impl<T: Transport, E: Environment> Serving<'_, T, E> {
    /// Something was done beside the loop.
    pub(super) fn handle_done(&mut self, done: Done) -> Result<(), Stopped> {
        match done {
            Done::Verified(verification) => {
                self.station.verifier.handle_done(verification, self.replica.machine());
                Ok(())
            }
            Done::Body(done) => Ok(self.station.snapshots.handle_done(done, self.station.now())?),
        }
    }

    /// Time has passed.
    pub(super) fn tick_beside(&mut self) {
        let now = self.station.now();
        self.station.verifier.handle_tick(now);
        self.station.snapshots.handle_tick(now);
    }

    /// A peer said something about a snapshot's body.
    pub(super) fn handle_body(&mut self, from: ReplicaId, message: BodyMessage) {
        let own = Own {
            me: self.station.me(),
            term: self.replica.term(),
            leader: self.replica.leader(),
            applied: self.replica.machine().applied(),
            founders: self.replica.founders(),
        };
        self.station.snapshots.handle_message(from, message, own, self.station.now());
    }

    /// Does what the snapshots that are on their way want done, and what follows from it.
    pub(super) fn follow_snapshots(&mut self) -> Result<(), Stopped> {
        while let Some(step) = self.station.snapshots.poll_step() {
            match step {
                Step::Tell(input) => {
                    self.station.metrics.handle_snapshot(&input);
                    self.step(input)?;
                }
                Step::Say { to, message } => _ = self.station.send(to, PeerMessage::Body(message)),
            }
        }
        Ok(())
    }

    /// Tells every peer this replica's digests.
    pub(super) fn tell_checkpoint(&mut self, checkpoint: Checkpoint) {
        let me = self.station.me();
        for peer in self.replica.founders().disks.keys().filter(|peer| **peer != me) {
            self.station.send(*peer, PeerMessage::Checkpoint(checkpoint));
        }
    }
}
