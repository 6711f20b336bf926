//! The way back from a snapshot's bytes (the format is told in `snapshot`) to a state. The bytes may come from another node
//! or a damaged disk, so nothing in them is believed: what they claim is bounded before it is acted upon, and what they
//! describe is checked as a whole before it is a state.

use super::{
    StateMachine,
    check::ITEMS_PER_POOL_MAX,
    draw::DRAW_ALGORITHM,
    invariants,
    keys::{Keys, ScopeRecord},
    machine::{ITEMS_MAX, POOLS_MAX},
    names::{ItemId, PoolId},
    snapshot::{FORMAT, Header, SECTION_BYTES_MAX, Section},
    state::Pool,
    stock::Item,
};
use crate::{codec, hooks};

/// A snapshot's bytes that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot cannot be restored: {0}")]
pub struct BadSnapshot(pub String);

fn bad(why: impl Into<String>) -> BadSnapshot {
    BadSnapshot(why.into())
}

/// Builds a state from a snapshot's bytes as they come, in pieces of any length. It holds no more than a section of them
/// beside the state, and takes time by the length of each piece and of a section.
#[derive(Debug, Default)]
pub struct Restorer {
    /// The beginning of what comes next.
    buffer: Vec<u8>,
    next: Next,
    filling: Option<Filling>,
    /// Why all that follows is refused too.
    failed: Option<BadSnapshot>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    #[default]
    Format,
    Length,
    /// A section of so many bytes.
    Section(usize),
    /// The end was there.
    Nothing,
}

/// A state on its way.
#[derive(Debug)]
struct Filling {
    header: Header,
    machine: StateMachine,
    /// The pool that items and keys belong to, and how many items it still lacks.
    current: Option<(PoolId, u32)>,
}

impl Restorer {
    /// Takes the next bytes. An error is final.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        if let Some(bad) = &self.failed {
            return Err(bad.clone());
        }
        let read = self.read(bytes);
        if let Err(bad) = &read {
            *self = Self { failed: Some(bad.clone()), ..Self::default() };
        }
        read
    }

    /// The state, once all its bytes are in: checked, and its digest compared with the one in it. Takes time by its size.
    pub fn finish(self) -> Result<StateMachine, BadSnapshot> {
        match (self.failed, self.next, self.filling) {
            (Some(bad), ..) => Err(bad),
            (None, Next::Nothing, Some(filling)) => filling.finish(),
            (None, _, Some(Filling { mut machine, .. })) if hooks::is_planted("m33") => {
                machine.settle();
                Ok(machine)
            }
            _ => Err(bad("it is cut short")),
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<(), BadSnapshot> {
        while !bytes.is_empty() {
            let missing = match self.next {
                Next::Format => size_of::<u16>(),
                Next::Length => size_of::<u32>(),
                Next::Section(len) => len,
                Next::Nothing => return Err(bad("bytes follow its end")),
            } - self.buffer.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.buffer.extend_from_slice(head);
            bytes = rest;
            if head.len() == missing {
                let mut whole = std::mem::take(&mut self.buffer);
                self.next = self.take(&whole)?;
                whole.clear();
                self.buffer = whole;
            }
        }
        Ok(())
    }

    /// Takes what was next, now whole; says what comes after it.
    fn take(&mut self, bytes: &[u8]) -> Result<Next, BadSnapshot> {
        match self.next {
            Next::Format => match u16::from_le_bytes(bytes.try_into().expect("a format has 2 bytes")) {
                FORMAT => Ok(Next::Length),
                other => Err(bad(format!("snapshot format {other} is not known to this build"))),
            },
            Next::Length => match u32::from_le_bytes(bytes.try_into().expect("a length has 4 bytes")) as usize {
                len @ 1..=SECTION_BYTES_MAX => Ok(Next::Section(len)),
                len => Err(bad(format!("a section has 1 to {SECTION_BYTES_MAX} bytes, not {len}"))),
            },
            Next::Section(len) => {
                let section = codec::decode(bytes, len).map_err(|error| bad(error.to_string()))?;
                self.take_section(section)
            }
            Next::Nothing => unreachable!("nothing is never whole"),
        }
    }

    fn take_section(&mut self, section: Section) -> Result<Next, BadSnapshot> {
        match (&mut self.filling, section) {
            (None, Section::Header(header)) => self.filling = Some(Filling::begin(header)?),
            (None, _) => return Err(bad("it does not begin with a header")),
            (Some(_), Section::Header(_)) => return Err(bad("it has a second header")),
            (Some(filling), Section::Pool { id, facts, items, keys }) => {
                filling.open(id, Pool::restore(facts), items, keys)?;
            }
            (Some(filling), Section::Items(items)) => filling.add_items(items)?,
            (Some(Filling { machine, current, .. }), Section::Keys(piece)) => {
                let pool = current.as_ref().map(|(id, _)| id);
                machine.keys.restore_piece(pool, &piece).map_err(bad)?;
            }
            (Some(filling), Section::End) => {
                filling.close_pool()?;
                return Ok(Next::Nothing);
            }
        }
        Ok(Next::Length)
    }
}

impl Filling {
    fn begin(header: Header) -> Result<Self, BadSnapshot> {
        if header.draw_algorithm != DRAW_ALGORITHM {
            return Err(bad(format!("draw algorithm {} is not known to this build", header.draw_algorithm)));
        }
        let mut machine = StateMachine::bare(header.limits);
        machine.applied = header.applied;
        machine.now = header.now;
        machine.history = header.history;
        machine.keys = Keys::restore(header.limits, header.seed, header.orphans);
        Ok(Self { header, machine, current: None })
    }

    fn open(&mut self, id: PoolId, pool: Pool, items: u32, keys: ScopeRecord) -> Result<(), BadSnapshot> {
        self.close_pool()?;
        if self.current.as_ref().is_some_and(|(before, _)| *before >= id) || self.machine.pools.len() == POOLS_MAX {
            return Err(bad(format!("pool {id} is out of order, or one too many")));
        }
        self.machine.keys.restore_scope(id.clone(), keys);
        self.machine.adopt(id.clone(), pool);
        self.current = Some((id, items));
        Ok(())
    }

    fn close_pool(&self) -> Result<(), BadSnapshot> {
        match &self.current {
            Some((id, missing @ 1..)) => Err(bad(format!("{missing} items of pool {id} are missing"))),
            _ => Ok(()),
        }
    }

    fn add_items(&mut self, items: Vec<(ItemId, Item)>) -> Result<(), BadSnapshot> {
        let Some((id, missing)) = &mut self.current else { return Err(bad("it has items without a pool")) };
        let left = u32::try_from(items.len()).ok().and_then(|len| missing.checked_sub(len));
        *missing = left.ok_or_else(|| bad(format!("pool {id} has more items than announced")))?;
        self.machine.items_len += items.len();
        let pool = self.machine.pools.get_mut(id).expect("it was opened before");
        if pool.items.len() + items.len() > ITEMS_PER_POOL_MAX || self.machine.items_len > ITEMS_MAX {
            return Err(bad(format!("pool {id} has more items than there can be")));
        }
        for (item_id, item) in items {
            if pool.items.position(&item_id).is_some() || !item.is_conserved() {
                return Err(bad(format!("item {item_id} of pool {id} is there twice, or is {item:?}")));
            }
            pool.items.push(item_id, item);
        }
        Ok(())
    }

    fn finish(self) -> Result<StateMachine, BadSnapshot> {
        let Self { header, mut machine, .. } = self;
        if machine.pools.len() != header.pools as usize {
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
}
