//! Snapshots: a view taken at once, and its bytes, made piece by piece where nobody waits.
//!
//! The bytes are a format number (`u16`), then sections: a length (`u32`) and that many bytes of one [`Section`], at most
//! [`SECTION_BYTES_MAX`]. First the header and the keys of pools that do not exist; then, pool by pool in the order of
//! names, the pool, its items in the order of positions, its keys in the order of buckets and, within one, of arrival;
//! then the end. All of that order comes from the log. So replicas have equal bytes at an index, however each came there.
//!
//! What can be derived is left out: the index of names, the weights drawn from, the hash tables, every sum. The
//! [`super::Restorer`] builds it again, checks all there is to check, and compares the state digest with the header's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Limits, StateMachine,
    digest::{Record, Sum},
    draw::DRAW_ALGORITHM,
    invariants,
    keys::{Keys, KeysPiece, ScopeRecord},
    names::{ItemId, PoolId},
    query::Verification,
    state::Facts,
    stock::{Item, ItemList},
};
use crate::{
    codec,
    types::{HistoryDigest, Index, Millis, StateDigest},
};

/// The format that is written and read. In 1 the state digest was made of another hash.
pub(super) const FORMAT: u16 = 2;
/// Longest section. A key record of the greatest length that can be written, and [`ITEMS_PER_SECTION`] items with the
/// longest ids, are well below.
pub(super) const SECTION_BYTES_MAX: usize = 128 << 10;
/// Items of a section.
const ITEMS_PER_SECTION: usize = 512;

/// A view of the state at an index, taken at once and encoded elsewhere while the state moves on.
#[derive(Debug)]
pub struct SnapshotHandle {
    header: Header,
    pools: Vec<(PoolId, Facts, ItemList)>,
    keys: Keys,
}

/// What a snapshot begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) draw_algorithm: u16,
    pub(super) limits: Limits,
    pub(super) applied: Index,
    pub(super) now: Millis,
    pub(super) history: HistoryDigest,
    pub(super) state: StateDigest,
    /// Key of the key tables' hash.
    pub(super) seed: Option<[u64; 2]>,
    /// How many pools follow.
    pub(super) pools: u32,
    /// Of the pools that do not exist.
    pub(super) orphans: ScopeRecord,
}

/// A part of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Section {
    Header(Header),
    Pool {
        id: PoolId,
        facts: Facts,
        /// How many follow.
        items: u32,
        keys: ScopeRecord,
    },
    Items(Vec<(ItemId, Item)>),
    Keys(KeysPiece),
    End,
}

/// What is reserved for a piece at once, however long it may be.
const CHUNK_RESERVED_BYTES_MAX: usize = 1 << 20;

impl SnapshotHandle {
    pub(super) fn of(machine: &StateMachine) -> Self {
        let pools = machine.pools.iter();
        let pools: Vec<_> =
            pools.map(|(id, pool)| (id.clone(), pool.facts.clone(), pool.items.list().clone())).collect();
        let header = Header {
            draw_algorithm: DRAW_ALGORITHM,
            limits: machine.limits,
            applied: machine.applied,
            now: machine.now,
            history: machine.history,
            state: machine.state,
            seed: *machine.keys.seed(),
            pools: u32::try_from(pools.len()).expect("a group has at most 1 024 pools"),
            orphans: machine.keys.scope_record(None),
        };
        Self { header, pools, keys: machine.keys.view() }
    }

    /// The index it is of.
    pub fn index(&self) -> Index {
        self.header.applied
    }

    /// Encodes it piece by piece, each of `bytes` bytes (not 0) but the last, which has the rest. Each takes time by its
    /// own length and by that of a section, and no more than both is held in memory.
    ///
    /// # Panics
    /// Before the last piece, if the state's digest is not the one recomputed from the records on the way: this node's
    /// memory cannot be trusted, nor what was encoded.
    pub fn chunks(&self, bytes: usize) -> impl Iterator<Item = Bytes> + Send + use<'_> {
        assert!(bytes > 0, "a body has no end of pieces without bytes");
        let mut sections = self.sections();
        let mut section = Bytes::new();
        std::iter::from_fn(move || {
            let mut chunk = Vec::with_capacity(bytes.min(CHUNK_RESERVED_BYTES_MAX));
            while chunk.len() < bytes {
                if section.is_empty() {
                    let Some(next) = sections.next() else { break };
                    section = next.into();
                }
                let head = section.split_to(section.len().min(bytes - chunk.len()));
                chunk.extend_from_slice(&head);
            }
            (!chunk.is_empty()).then(|| Bytes::from(chunk))
        })
    }

    /// Encodes it all at once: for what is small.
    ///
    /// # Panics
    /// As [`Self::chunks`].
    pub fn encode(&self) -> Vec<u8> {
        self.sections().flatten().collect()
    }

    /// Looks at everything, and recomputes the digest: see [`super::Query::Verify`]. Takes time by the size of the state.
    pub fn verify(&self) -> Verification {
        let pools = self.pools.iter().map(|(id, facts, items)| (id, facts, items));
        let mut verification = invariants::check_records(pools, &self.keys, (self.header.applied, self.header.now));
        let mut sum = Sum::default();
        self.parts().for_each(|(_, part)| sum.merge(part));
        let (kept, recomputed) = (self.header.state, sum.digest());
        if kept != recomputed {
            verification.violations.push(format!("the state digest is {kept}, and should be {recomputed}"));
        }
        verification
    }

    /// The bytes, section by section.
    fn sections(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<'_> {
        let mut sum = Sum::default();
        let framed = self.parts().map(move |(section, part)| {
            sum.merge(part);
            if matches!(section, Section::End) {
                let (kept, recomputed) = (self.header.state, sum.digest());
                assert_eq!(kept, recomputed, "invariant one history is broken: the state is not what its digest says");
            }
            frame(&section)
        });
        std::iter::once(FORMAT.to_le_bytes().to_vec()).chain(framed)
    }

    /// The sections, each with the sum of the hashes of the state's records in it.
    fn parts(&self) -> impl Iterator<Item = (Section, Sum)> + Send + use<'_> {
        let Header { now, limits, seed, .. } = &self.header;
        let globals = Sum::of([Record::Globals { now: *now, limits, seed }.hash(), self.keys.scope_hash(None)]);
        let header = (Section::Header(self.header.clone()), globals);
        let pools = self.pools.iter().flat_map(|(id, facts, items)| {
            let pool = std::iter::once_with(|| self.pool_part(id, facts, items));
            pool.chain(item_parts(id, items)).chain(self.key_parts(Some(id)))
        });
        let end = (Section::End, Sum::default());
        std::iter::once(header).chain(self.key_parts(None)).chain(pools).chain([end])
    }

    fn pool_part(&self, id: &PoolId, facts: &Facts, items: &ItemList) -> (Section, Sum) {
        let sum = Sum::of([Record::Pool { id, facts }.hash(), self.keys.scope_hash(Some(id))]);
        let (id, facts) = (id.clone(), facts.clone());
        let items = u32::try_from(items.len()).expect("a pool has at most 65 536 items");
        let keys = self.keys.scope_record(Some(&id));
        (Section::Pool { id, facts, items, keys }, sum)
    }

    fn key_parts(&self, pool: Option<&PoolId>) -> impl Iterator<Item = (Section, Sum)> + Send {
        self.keys.pieces(pool).map(|(piece, sum)| (Section::Keys(piece), sum))
    }
}

fn item_parts<'a>(pool: &'a PoolId, items: &'a ItemList) -> impl Iterator<Item = (Section, Sum)> + Send + 'a {
    let mut items = (0..).zip(items.iter());
    std::iter::from_fn(move || {
        let mut sum = Sum::default();
        let part = items.by_ref().take(ITEMS_PER_SECTION).map(|(position, (id, item))| {
            sum.add(Record::Item { pool, position, id, item }.hash());
            (id.clone(), *item)
        });
        let part: Vec<_> = part.collect();
        (!part.is_empty()).then_some((Section::Items(part), sum))
    })
}

/// A section after its length.
fn frame(section: &Section) -> Vec<u8> {
    let bytes = codec::encode(section);
    assert!(bytes.len() <= SECTION_BYTES_MAX, "a section of {} bytes is written by mistake", bytes.len());
    let len = u32::try_from(bytes.len()).expect("a section is short");
    [len.to_le_bytes().as_slice(), &bytes].concat()
}
