//! A node's door: the frames of the native protocol without QUIC; what is in them, [`tombola::calls`] answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tombola::{
    calls::Calls,
    client::{
        ClientCall, ClientFrame, ServerFrame,
        wire::{FrameReader, encode_frame},
    },
    runtime::NodeHandle,
};

use super::{
    actor,
    seal::{open, seal},
};
use crate::network::{Door, Replier};

/// Serves whoever comes to a node's door, for as long as it is open. To be run on the node's own tasks, once in its life.
pub async fn serve(mut door: Door, handle: NodeHandle) {
    // Later lives begin later, and by at least a millisecond.
    let life = u64::try_from(madsim::time::TimeHandle::current().elapsed().as_micros()).expect("it is short") + 1;
    let replier = door.replier();
    let mut sessions = BTreeMap::<u64, Arc<Session>>::new();
    let mut seen = BTreeSet::new();
    while let Some((client, packet)) = door.receive().await {
        let Some((of, frame)) = open(&packet) else { continue };
        if of != life {
            replier.send(client, seal(life, &[]).into());
            continue;
        }
        let mut reader = FrameReader::<ClientFrame>::default();
        reader.push(frame);
        let Ok(Some(frame)) = reader.next_frame() else { continue };
        let session = sessions.entry(client).or_insert_with(|| {
            let calls = Calls::new(actor(client), handle.clone());
            Arc::new(Session { client, life, replier: replier.clone(), calls })
        });
        for call in frame.calls {
            // A stream brings each call once.
            if seen.insert((client, call.id)) {
                tokio::spawn(answer(session.clone(), call));
            }
        }
    }
}

/// A client of a life of the node.
struct Session {
    client: u64,
    life: u64,
    replier: Replier,
    calls: Calls,
}

/// Makes one call and sends its reply.
async fn answer(session: Arc<Session>, call: ClientCall) {
    let frame = ServerFrame { replies: vec![session.calls.answer(call).await] };
    let bytes = encode_frame(&frame).expect("what a plan can ask for has a short answer");
    session.replier.send(session.client, seal(session.life, &bytes).into());
}
