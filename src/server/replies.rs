//! Room for the native protocol's replies, in bytes.
//!
//! A reply is in memory from the moment it is made until its client has taken it, so a client that asks for much and reads
//! little decides how much memory a node needs. Every call is therefore weighed before it is made, by the longest reply it
//! can have; one that does not fit waits, unread calls behind it wait in QUIC's flow control, and nobody else is held up.
//! Short replies are not weighed: the bound on calls in flight is theirs.
//!
//! **A whole pool** may be 2 MiB long, and hardly ever is: weighed by that, four reads would fill a connection. So it is weighed
//! by what the last one took. A reply that turns out longer is dropped where it was made, and the read is made again in a place
//! for the longest: a read may be, and nobody holds more than was weighed.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    api::Read,
    client::{Call, Reply},
    pool::{Action, Answer, PAGE_LEN_MAX, Query, WHOLE_POOL_ITEMS_MAX},
};

/// Bytes that the long replies of one connection may have.
pub const CONNECTION_BYTES_MAX: usize = 8 << 20;
/// Bytes that those of all connections may have.
pub const NODE_BYTES_MAX: usize = 64 << 20;
/// A reply that is no longer is short.
pub const SHORT_BYTES_MAX: u32 = 1 << 10;
/// A whole pool is weighed by no less.
const WHOLE_POOL_BYTES_MIN: u32 = 16 << 10;
/// The longest step of a draw: its code, and an item id of 64 bytes that no other step has.
const STEP_BYTES: u32 = 74;
/// The longest item: its id and its numbers.
const ITEM_BYTES: u32 = 136;
/// The longest summary of a pool: its id, a fallback item's, and its numbers.
const POOL_BYTES: u32 = 192;
/// Violations are told in words, and there should be none.
const VERIFICATION_BYTES: u32 = 64 << 10;

/// Room for the replies of a connection, within that of its node.
#[derive(Clone, Debug)]
pub struct ReplyRoom {
    node: Arc<Semaphore>,
    connection: Arc<Semaphore>,
    /// By how much the connection's next whole pool is weighed.
    whole_pool_bytes: Arc<AtomicU32>,
}

/// What a reply takes of it; given back when dropped.
#[derive(Debug)]
pub struct ReplyPlace {
    bytes: u32,
    _node: OwnedSemaphorePermit,
    _connection: OwnedSemaphorePermit,
}

impl ReplyRoom {
    /// All the room that a node has, as its first connection sees it.
    pub fn of_node() -> Self {
        Self::new(Arc::new(Semaphore::new(NODE_BYTES_MAX)))
    }

    /// For another connection of the same node.
    pub fn for_connection(&self) -> Self {
        Self::new(self.node.clone())
    }

    fn new(node: Arc<Semaphore>) -> Self {
        let whole_pool_bytes = Arc::new(AtomicU32::new(WHOLE_POOL_BYTES_MIN));
        Self { node, connection: Arc::new(Semaphore::new(CONNECTION_BYTES_MAX)), whole_pool_bytes }
    }

    /// Waits for a place for the reply to `call`; a short one needs none. One for a whole pool may turn out too short: see
    /// [`Self::holds`].
    pub async fn take(&self, call: &Call) -> Option<ReplyPlace> {
        let bytes = reply_bytes_max(call);
        let is_guess = is_of_whole_pool(call);
        self.wait(if is_guess { bytes.min(self.whole_pool_bytes.load(Ordering::Relaxed)) } else { bytes }).await
    }

    /// Waits for a place for the longest reply that `call` can have.
    pub async fn take_longest(&self, call: &Call) -> Option<ReplyPlace> {
        self.wait(reply_bytes_max(call)).await
    }

    /// Is the place long enough for a whole pool's reply? If not, drop the reply, and make the call again in a place of
    /// [`Self::take_longest`].
    pub fn holds(&self, place: &ReplyPlace, reply: &Reply) -> bool {
        let Reply::Read(Read { answer: Answer::Pool(pool), .. }) = reply else { return true };
        let bytes = whole_pool_bytes(pool.items.len());
        // Room to grow, so that a pool to which items are added is seldom read twice.
        self.whole_pool_bytes.store(bytes.next_power_of_two().max(WHOLE_POOL_BYTES_MIN), Ordering::Relaxed);
        bytes <= place.bytes
    }

    async fn wait(&self, bytes: u32) -> Option<ReplyPlace> {
        if bytes <= SHORT_BYTES_MAX {
            return None;
        }
        // The connection's first: whoever waits for that takes nothing from others. Neither is ever closed.
        let connection = self.connection.clone().acquire_many_owned(bytes).await.ok()?;
        let node = self.node.clone().acquire_many_owned(bytes).await.ok()?;
        Some(ReplyPlace { bytes, _node: node, _connection: connection })
    }
}

/// Does the call read a whole pool?
pub fn is_of_whole_pool(call: &Call) -> bool {
    matches!(call, Call::Read { query: Query::Pool(_), .. })
}

/// The longest reply that holds a whole pool of so many items.
fn whole_pool_bytes(items: usize) -> u32 {
    SHORT_BYTES_MAX / 2 + items as u32 * ITEM_BYTES
}

/// The longest reply that a call can have.
fn reply_bytes_max(call: &Call) -> u32 {
    let listed = |limit: u16| u32::from(limit.min(PAGE_LEN_MAX));
    SHORT_BYTES_MAX / 2
        + match call {
            Call::Submit { action: Action::Draw { count }, .. } => u32::from(*count) * STEP_BYTES,
            Call::Read { query, .. } => match query {
                Query::Pool(_) => return whole_pool_bytes(WHOLE_POOL_ITEMS_MAX),
                Query::Pools { limit, .. } => listed(*limit) * POOL_BYTES,
                Query::Items { limit, .. } => listed(*limit) * ITEM_BYTES,
                Query::Outcome(..) => u32::from(crate::pool::DRAWS_PER_COMMAND_MAX) * STEP_BYTES,
                Query::Verify => VERIFICATION_BYTES,
            },
            Call::Submit { .. } | Call::Status | Call::HistoryAt(_) | Call::Transfer(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::{
        api::{Answered, Consistency},
        client::Reply,
        codec,
        pool::{
            DrawSeq, Effect, ItemId, ItemState, Outcome, Policy, PoolId, PoolState, PoolSummary, RequestKey, Step,
            Stock, Version, Weight,
        },
        types::{Index, Millis},
    };

    fn longest_id() -> ItemId {
        "x".repeat(64).parse().unwrap()
    }

    fn summary() -> PoolSummary {
        PoolSummary {
            id: "p".repeat(63).parse().unwrap(),
            paused: true,
            policy: Policy::Fallback(longest_id()),
            require_key: true,
            version: Version(u64::MAX),
            draw_seq: DrawSeq(u64::MAX),
            items: u32::MAX,
            key_floor: Millis(u64::MAX),
        }
    }

    fn items(len: usize) -> Vec<ItemState> {
        let (most, rev) = (u64::MAX, Version(u64::MAX));
        let (weight, stock) = (Weight(u32::MAX), Stock::Finite(most));
        let item = ItemState {
            id: longest_id(),
            weight,
            stock,
            reserved: most,
            awarded: most,
            returned: most,
            added: most,
            rev,
        };
        vec![item; len]
    }

    fn read(query: Query) -> Call {
        Call::Read { query, consistency: Consistency::Stale }
    }

    #[test]
    fn the_longest_replies_are_no_longer_than_they_are_weighed() {
        let pool = PoolId::default_pool;
        let drawn = Effect::Drawn {
            first_seq: DrawSeq(1),
            version: Version(1),
            steps: (0..1_000).map(|step| Step::Fallback(format!("{step:x>64}").parse().unwrap())).collect(),
        };
        let outcome = Outcome { index: Index(1), now: Millis(1), replayed: true, result: Ok(drawn) };
        let key = RequestKey::new(Millis(1), [0; 10]);
        let submitted = Reply::Submitted(Answered { key, outcome: outcome.clone() });
        let read_reply = |answer| Reply::Read(crate::api::Read { index: Index(1), now: Millis(1), answer });
        let whole = PoolState { summary: summary(), items: items(WHOLE_POOL_ITEMS_MAX) };
        let draw = Call::Submit { pool: pool(), key: None, action: Action::Draw { count: 1_000 } };
        let replies = [
            (draw, submitted),
            (read(Query::Outcome(pool(), key)), read_reply(Answer::Outcome(crate::pool::Remembered::Outcome(outcome)))),
            (read(Query::Pool(pool())), read_reply(Answer::Pool(whole))),
            (
                read(Query::Pools { after: None, limit: 1_000 }),
                read_reply(Answer::Pools { pools: vec![summary(); 1_000], more: true }),
            ),
            (
                read(Query::Items { pool: pool(), after: None, limit: 1_000 }),
                read_reply(Answer::Items { summary: summary(), items: items(1_000), more: true }),
            ),
        ];
        for (call, reply) in replies {
            let (weighed, long) = (reply_bytes_max(&call) as usize, codec::encoded_len(&reply));
            assert!(long <= weighed && weighed <= long + long / 5, "{call:?} is weighed {weighed} and has {long}");
            assert!(weighed <= CONNECTION_BYTES_MAX, "it would wait for ever");
        }
    }

    #[tokio::test]
    async fn who_reads_nothing_is_stopped_and_others_are_not_until_the_node_is_full() {
        let brief = Duration::from_millis(20);
        let whole = read(Query::Pool(PoolId::default_pool()));
        let node = ReplyRoom::of_node();
        let (mut rooms, mut places) = (vec![], vec![]);
        while rooms.len() < 100 {
            let room = node.for_connection();
            let before = places.len();
            while let Ok(place) = timeout(brief, room.take_longest(&whole)).await {
                places.push(place.expect("a whole pool is long"));
            }
            rooms.push(room);
            if places.len() == before {
                break;
            }
            assert!(places.len() - before <= CONNECTION_BYTES_MAX / (WHOLE_POOL_ITEMS_MAX * 136));
        }
        assert_eq!(places.len(), NODE_BYTES_MAX / reply_bytes_max(&whole) as usize);
        assert!(rooms[0].take(&Call::Status).await.is_none(), "short ones need no room");
        places.pop();
        let last = rooms.last().unwrap();
        assert!(
            timeout(Duration::from_secs(10), last.take_longest(&whole)).await.expect("there is room again").is_some()
        );
    }

    #[tokio::test]
    async fn a_whole_pool_is_weighed_by_the_last_one() {
        let whole = read(Query::Pool(PoolId::default_pool()));
        let reply = |len| {
            let answer = Answer::Pool(PoolState { summary: summary(), items: items(len) });
            Reply::Read(Read { index: Index(1), now: Millis(1), answer })
        };
        let room = ReplyRoom::of_node();
        let first = room.take(&whole).await.unwrap();
        assert_eq!(first.bytes, WHOLE_POOL_BYTES_MIN);
        assert!(room.holds(&first, &reply(6)));
        assert!(!room.holds(&first, &reply(1_000)), "its client holds what was not weighed");
        let second = room.take(&whole).await.unwrap();
        assert!(room.holds(&second, &reply(1_500)), "a pool may grow a little");
        assert!(!room.holds(&second, &reply(WHOLE_POOL_ITEMS_MAX)));
        let third = room.take(&whole).await.unwrap();
        assert_eq!(third.bytes, reply_bytes_max(&whole), "no more than the longest");
        assert!(room.holds(&third, &reply(6)));
        assert_eq!(room.take(&whole).await.unwrap().bytes, WHOLE_POOL_BYTES_MIN, "and short again");
        let other = room.for_connection();
        assert_eq!(other.take(&whole).await.unwrap().bytes, WHOLE_POOL_BYTES_MIN, "each connection has its own");
    }
}
