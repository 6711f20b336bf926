//! Snapshots: a view taken at once, its bytes, and the way back.
//!
//! The bytes are a format number (`u16`), then sections: a length (`u64`) and that many bytes of one [`Section`]. First the
//! header and the keys of pools that do not exist; then, pool by pool in the order of names, the pool, its items in the
//! order of positions, its keys; then the end. A bucket's records are sorted by name. So equal states have equal bytes,
//! however they came about; and neither direction ever holds more than one section beside the state and the bytes.
//!
//! What can be derived is left out: the index of names, the weights drawn from, the hash tables, every sum. It is built
//! again by [`restore`], which then checks all there is to check and compares the state digest with the header's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    Limits, StateMachine,
    check::ITEMS_PER_POOL_MAX,
    digest::Record,
    draw::DRAW_ALGORITHM,
    invariants,
    keys::{BucketRecord, Keys, ScopeRecord},
    machine::POOLS_MAX,
    names::{ItemId, PoolId},
    query::Verification,
    state::{Facts, Pool},
    stock::{Item, ItemsView},
};
use crate::{
    codec,
    types::{HistoryDigest, Index, Millis, StateDigest},
};

/// The only format so far.
const FORMAT: u16 = 1;
/// Items of a section.
const ITEMS_PER_SECTION: usize = 4_096;

/// A snapshot's bytes that cannot be restored.
#[derive(Debug, thiserror::Error)]
#[error("the snapshot cannot be restored: {0}")]
pub struct BadSnapshot(pub String);

/// A view of the state at an index, taken at once and encoded elsewhere while the state moves on.
#[derive(Debug)]
pub struct SnapshotHandle {
    header: Header,
    pools: Vec<(PoolId, Facts, ItemsView)>,
    keys: Keys,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    draw_algorithm: u16,
    limits: Limits,
    applied: Index,
    now: Millis,
    history: HistoryDigest,
    state: StateDigest,
    /// Key of the key tables' hash.
    seed: Option<[u64; 2]>,
    /// How many pools follow.
    pools: u32,
    /// Of the pools that do not exist.
    orphans: ScopeRecord,
}

#[derive(Debug, Serialize, Deserialize)]
enum Section {
    Header(Header),
    Pool { id: PoolId, facts: Facts, items: u32, keys: ScopeRecord },
    Items(Vec<(ItemId, Item)>),
    Keys(BucketRecord),
    End,
}

impl SnapshotHandle {
    pub(super) fn of(machine: &StateMachine) -> Self {
        let pools = machine.pools.iter();
        let pools: Vec<_> = pools.map(|(id, pool)| (id.clone(), pool.facts.clone(), pool.items.view())).collect();
        let header = Header {
            draw_algorithm: DRAW_ALGORITHM,
            limits: machine.limits,
            applied: machine.applied,
            now: machine.now,
            history: machine.history,
            state: machine.state,
            seed: *machine.keys.seed(),
            pools: u32::try_from(pools.len()).expect("a group has at most 1 024 pools"),
            orphans: machine.keys.scope_record(None).expect("the orphans' scope is always there"),
        };
        Self { header, pools, keys: machine.keys.clone() }
    }

    /// The index it is of.
    pub fn index(&self) -> Index {
        self.header.applied
    }

    /// Encodes it; may take long.
    ///
    /// # Panics
    /// If the state's digest is not the one recomputed from its records: this node's memory cannot be trusted.
    pub fn encode(&self) -> Vec<u8> {
        let state = self.recompute();
        assert_eq!(state, self.header.state, "invariant one history is broken: the state is not what its digest says");
        let mut body = FORMAT.to_le_bytes().to_vec();
        let mut write = |section: Section| {
            let bytes = codec::encode(&section);
            body.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            body.extend_from_slice(&bytes);
        };
        write(Section::Header(self.header.clone()));
        self.keys.bucket_records(None).for_each(|bucket| write(Section::Keys(bucket)));
        for (id, facts, items) in &self.pools {
            let items_len = u32::try_from(items.len()).expect("a pool has at most 65 536 items");
            let keys = self.keys.scope_record(Some(id)).expect("every pool has its scope");
            write(Section::Pool { id: id.clone(), facts: facts.clone(), items: items_len, keys });
            let items: Vec<_> = items.iter().map(|(item_id, item)| (item_id.clone(), *item)).collect();
            items.chunks(ITEMS_PER_SECTION).for_each(|chunk| write(Section::Items(chunk.to_vec())));
            self.keys.bucket_records(Some(id)).for_each(|bucket| write(Section::Keys(bucket)));
        }
        write(Section::End);
        body
    }

    /// Encodes it piece by piece, each of `bytes` bytes but the last, which has the rest. Each takes time by its own length
    /// and by that of a section.
    ///
    /// # Panics
    /// As [`Self::encode`].
    pub fn chunks(&self, bytes: usize) -> impl Iterator<Item = Bytes> + use<'_> {
        let body = Bytes::from(self.encode());
        (0..body.len()).step_by(bytes).map(move |from| body.slice(from..body.len().min(from + bytes)))
    }

    /// Looks at everything, and recomputes the digest: see [`super::Query::Verify`].
    pub fn verify(&self) -> Verification {
        let restored = restore(&self.encode());
        restored.map(|machine| invariants::verify(&machine)).unwrap_or_else(|bad| Verification {
            pools: 0,
            items: 0,
            keys: 0,
            violations: vec![bad.to_string()],
        })
    }

    /// The state digest, from the records alone.
    pub(super) fn recompute(&self) -> StateDigest {
        let mut sum = self.keys.recompute();
        let Header { now, limits, seed, .. } = &self.header;
        sum.add(Record::Globals { now: *now, limits, seed }.hash());
        for (id, facts, items) in &self.pools {
            sum.add(Record::Pool { id, facts }.hash());
            for (position, (item_id, item)) in (0..).zip(items.iter()) {
                sum.add(Record::Item { pool: id, position, id: item_id, item }.hash());
            }
        }
        sum.digest()
    }
}

/// Builds a state from a snapshot's bytes as they come, in pieces of any length.
#[derive(Debug, Default)]
pub struct Restorer {
    body: Vec<u8>,
}

impl Restorer {
    /// Takes the next bytes. An error is final.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    /// The state, once all its bytes are in: recomputed, and compared with the digest in it.
    pub fn finish(self) -> Result<StateMachine, BadSnapshot> {
        restore(&self.body)
    }
}

/// Memory that is not needed any more and may take long to free: to be dropped where nobody waits.
pub struct Garbage(#[expect(dead_code, reason = "it is there to be dropped")] Box<dyn Send>);

impl Garbage {
    /// Whatever is to be dropped.
    pub fn new(what: impl Send + 'static) -> Self {
        Self(Box::new(what))
    }
}

impl std::fmt::Debug for Garbage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Garbage")
    }
}

/// The state that `body` is of.
pub(super) fn restore(body: &[u8]) -> Result<StateMachine, BadSnapshot> {
    let mut sections = Sections::open(body)?;
    let Section::Header(header) = sections.next()? else {
        return Err(bad("it does not begin with a header"));
    };
    if header.draw_algorithm != DRAW_ALGORITHM {
        return Err(bad(format!("draw algorithm {} is not known to this build", header.draw_algorithm)));
    }
    let mut machine = StateMachine::bare(header.limits);
    machine.applied = header.applied;
    machine.now = header.now;
    machine.history = header.history;
    machine.keys = Keys::restore(header.limits, header.seed, header.orphans);
    fill(&mut machine, &mut sections)?;
    if machine.pools.len() != header.pools as usize || machine.pools.len() > POOLS_MAX {
        return Err(bad(format!("{} pools are announced, {} are there", header.pools, machine.pools.len())));
    }
    machine.settle();
    if machine.state != header.state {
        return Err(bad(format!("its state digest is {}, and should be {}", machine.state, header.state)));
    }
    match invariants::check(&machine).violations.into_iter().next() {
        Some(violation) => Err(bad(violation)),
        None => Ok(machine),
    }
}

/// Takes in pools and keys until the end.
fn fill(machine: &mut StateMachine, sections: &mut Sections<'_>) -> Result<(), BadSnapshot> {
    // The pool that items and keys belong to, and how many items it still lacks.
    let mut current: Option<(PoolId, u32)> = None;
    loop {
        match sections.next()? {
            Section::Header(_) => return Err(bad("it has a second header")),
            Section::Pool { id, facts, items, keys } => {
                if let Some((before, missing)) = &current
                    && (*before >= id || *missing > 0)
                {
                    return Err(bad(format!("pool {before} is incomplete, or out of order")));
                }
                machine.restore_pool(id.clone(), Pool::restore(facts), keys);
                current = Some((id, items));
            }
            Section::Items(items) => {
                let Some((id, missing)) = &mut current else { return Err(bad("it has items without a pool")) };
                let announced = u32::try_from(items.len()).ok().and_then(|len| missing.checked_sub(len));
                *missing = announced.ok_or_else(|| bad(format!("pool {id} has more items than announced")))?;
                machine.restore_items(id, items)?;
            }
            Section::Keys(bucket) => {
                let pool = current.as_ref().map(|(id, _)| id);
                machine.keys.restore_bucket(pool, &bucket).map_err(bad)?;
            }
            Section::End if current.is_some_and(|(_, missing)| missing > 0) => return Err(bad("items are missing")),
            Section::End => return sections.finish(),
        }
    }
}

impl StateMachine {
    fn restore_pool(&mut self, id: PoolId, pool: Pool, keys: ScopeRecord) {
        self.keys.restore_scope(id.clone(), keys);
        self.adopt(id, pool);
    }

    fn restore_items(&mut self, id: &PoolId, items: Vec<(ItemId, Item)>) -> Result<(), BadSnapshot> {
        let pool = self.pools.get_mut(id).expect("it was restored just before");
        self.items_len += items.len();
        for (item_id, item) in items {
            if pool.items.len() == ITEMS_PER_POOL_MAX || pool.items.position(&item_id).is_some() || !item.is_conserved()
            {
                return Err(bad(format!(
                    "item {item_id} of pool {id} is there twice, is one too many, or is {item:?}"
                )));
            }
            pool.items.push(item_id, item);
        }
        Ok(())
    }
}

fn bad(why: impl Into<String>) -> BadSnapshot {
    BadSnapshot(why.into())
}

/// Reads one section after the other.
struct Sections<'a> {
    rest: &'a [u8],
}

impl<'a> Sections<'a> {
    fn open(body: &'a [u8]) -> Result<Self, BadSnapshot> {
        let (format, rest) = body.split_first_chunk().ok_or_else(|| bad("it is empty"))?;
        match u16::from_le_bytes(*format) {
            FORMAT => Ok(Self { rest }),
            other => Err(bad(format!("snapshot format {other} is not known to this build"))),
        }
    }

    fn next(&mut self) -> Result<Section, BadSnapshot> {
        let cut = || bad("it is cut short");
        let (len, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| cut())?;
        let (section, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        self.rest = rest;
        codec::decode(section, section.len()).map_err(|error| bad(error.to_string()))
    }

    fn finish(&self) -> Result<(), BadSnapshot> {
        if self.rest.is_empty() { Ok(()) } else { Err(bad("bytes follow its end")) }
    }
}
