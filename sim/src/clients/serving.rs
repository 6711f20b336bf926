//! A node's door: the frames of the native protocol without QUIC; what is in them, [`tombola::calls`] answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tombola::{
    calls::Calls,
    client::{
        ClientFrame, ServerFrame,
        wire::{FrameReader, encode_frame},
    },
    runtime::NodeHandle,
};

use super::{
    actor,
    seal::{open, seal},
};
use crate::network::Door;

/// Serves whoever comes to a node's door, for as long as it is open. To be run on the node's own tasks, once in its life.
pub async fn serve(mut door: Door, handle: NodeHandle) {
    // Later lives begin later, and by at least a millisecond.
    let life = u64::try_from(madsim::time::TimeHandle::current().elapsed().as_micros()).expect("it is short") + 1;
    let replier = door.replier();
    let mut sessions = BTreeMap::<u64, Arc<Calls>>::new();
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
        let session = sessions.entry(client).or_insert_with(|| Arc::new(Calls::new(actor(client), handle.clone())));
        for call in frame.calls {
            // A stream brings each call once.
            if seen.insert((client, call.id)) {
                let replier = replier.clone();
                session.begin(call, move |reply| {
                    let frame = ServerFrame { replies: vec![reply] };
                    let bytes = encode_frame(&frame).expect("what a plan can ask for has a short answer");
                    replier.send(client, seal(life, &bytes).into());
                });
            }
        }
    }
}
