//! A node's first phase, passed once in the life of a cluster: until it is founded.
//!
//! All judgement is in [`crate::replica::founding`]; this drives it as `serving` drives the replica. Callers may come
//! already: what they ask waits, within its deadline.

use super::{Environment, Stopped, inputs::Event, peer::PeerMessage, station::Station, view::View};
use crate::{
    durable::{Founders, HardState, RecoveredLog, Snapshot},
    replica::founding::{Founding, FoundingOutput, FoundingRefused},
    transport::{self, Transport},
    types::ReplicaId,
};

/// Founds the cluster together with the other founders. Returns what the store holds then.
pub(super) async fn found<T: Transport, E: Environment>(
    station: &mut Station<T, E>,
    prepared: Option<Founders>,
) -> Result<RecoveredLog, Stopped> {
    station.introduce();
    let config = &station.config;
    let mut founding = Founding::new(station.identity, &config.founders, config.limits, prepared)?;
    let mut said_missing = Vec::new();
    loop {
        drain(station, &mut founding)?;
        if let Some(snapshot) = founding.founded() {
            tracing::info!(node = station.me().0, genesis = %snapshot.meta.genesis(), "founded");
            return Ok(founded_log(snapshot.clone()));
        }
        let missing = founding.missing();
        if missing != said_missing {
            tracing::info!(node = station.me().0, ?missing, "founding: waiting for the other founders");
            said_missing = missing;
        }
        handle(station, &mut founding).await?;
    }
}

/// Waits for one event and handles it.
async fn handle<T: Transport, E: Environment>(
    station: &mut Station<T, E>,
    founding: &mut Founding,
) -> Result<(), Stopped> {
    match station.inputs.next().await {
        Event::Stop => return Err(Stopped::Asked),
        Event::Persisted(report) => {
            report?;
            founding.handle_persisted();
        }
        Event::Network(transport::Event::Frame { from, frame }) => {
            if let Some((_, PeerMessage::Founding(message))) = station.open(from, &frame) {
                founding.handle_message(from, message)?;
            }
        }
        Event::Done(_) => unreachable!("without a replica nothing is asked for that is done beside the loop"),
        Event::Network(transport::Event::Met { peer, hello }) => station.handle_hello(peer, &hello),
        Event::Network(transport::Event::Refused { peer, reason }) => {
            if let Some(reason) = station.handle_refusal(peer, &reason) {
                return Err(FoundingRefused::NotAccepted { peer, reason }.into());
            }
        }
        Event::Network(transport::Event::Unreachable { .. }) => {}
        // A greeting more or less after a stall makes no difference.
        Event::Ticks(_) => {
            founding.handle_tick();
            station.handle_tick(View::default());
        }
        Event::Asked => {
            for ask in station.inputs.take_asks() {
                station.handle_ask(ask, None);
            }
        }
    }
    Ok(())
}

fn drain<T: Transport, E: Environment>(station: &mut Station<T, E>, founding: &mut Founding) -> Result<(), Stopped> {
    while let Some(output) = founding.poll_output() {
        match output {
            FoundingOutput::Send { to, message } => send(station, to, message),
            FoundingOutput::Persist(write) => station.write(write)?,
        }
    }
    // They greet again by themselves.
    station.take_unreachable();
    Ok(())
}

fn send<T: Transport, E: Environment>(
    station: &mut Station<T, E>,
    to: ReplicaId,
    message: crate::replica::founding::FoundingMessage,
) {
    station.send(to, PeerMessage::Founding(message));
}

/// What a store holds that was founded with this snapshot and nothing more.
fn founded_log(snapshot: Snapshot) -> RecoveredLog {
    let hard_state = HardState { term: snapshot.meta.term, vote: ReplicaId(0), commit: snapshot.meta.index };
    let truncated = (snapshot.meta.index, snapshot.meta.term);
    RecoveredLog { genesis: snapshot.meta.genesis(), hard_state, snapshot, truncated, entries: Vec::new() }
}
