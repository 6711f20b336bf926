//! A transport for a node by itself: in tests of adapters, and in benches.

use std::future::pending;

use bytes::Bytes;
use tombola::{
    transport::{Dropped, Event, Lane, Transport},
    types::ReplicaId,
};

/// A network with nobody on it.
pub struct Nobody;

impl Transport for Nobody {
    fn introduce(&mut self, _hello: Bytes) {}

    fn refuse(&mut self, _peer: ReplicaId, _reason: &str) {}

    fn send(&mut self, _to: ReplicaId, _lane: Lane, _frame: Bytes) -> Result<(), Dropped> {
        Err(Dropped)
    }

    async fn receive(&mut self) -> Option<Event> {
        pending().await
    }
}
