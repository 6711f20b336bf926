//! A disk in memory. What is written is pending until it is synced; a power cut keeps of it what it likes.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, ErrorKind},
    mem,
    ops::{ControlFlow, Range},
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

use super::{Backend, image::Image};

pub(super) const SECTOR: usize = 512;

/// A handle on the disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    durable: Image,
    now: Image,
    /// Sectors whose content in `now` may not be durable.
    pending: BTreeSet<usize>,
    counts: Counts,
    fails: Option<Failure>,
    /// What was done to it, if that is wanted.
    tape: Option<Vec<Operation>>,
    interrupt: Option<Interrupt>,
}

/// What happens between two operations.
struct Interrupt(Box<dyn FnMut() -> ControlFlow<()> + Send>);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

/// How often it was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Reads, writes, changes of length and syncs.
    pub(super) calls: u64,
    /// Of them, syncs that completed.
    pub(super) syncs: u64,
    /// Of them, bytes read.
    pub(super) read_bytes: u64,
}

/// Something done to a disk.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    SetLen(usize),
    Sync,
    /// Makes these bytes durable, and nothing else.
    SyncPages(Range<usize>),
}

impl Operation {
    /// Does it make anything durable?
    pub(super) fn is_sync(&self) -> bool {
        matches!(self, Self::Sync | Self::SyncPages(_))
    }
}

/// Calls that fail, counted from the first one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) at: u64,
    /// So do all after it.
    pub(super) is_lasting: bool,
    pub(super) kind: ErrorKind,
}

/// What a power cut leaves of what was pending: which sectors, and whether the new length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaves {
    pub(super) sectors: Sectors,
    pub(super) length: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Sectors {
    All,
    Nothing,
    /// Some of them.
    Some(u64),
    /// A prefix of each.
    Torn(u64),
}

impl Disk {
    /// A disk on which `image` is durable.
    pub(super) fn holding(image: Image) -> Self {
        Self(Arc::new(Mutex::new(Platter { durable: image.clone(), now: image, ..Platter::default() })))
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.platter().fails = Some(failure);
    }

    pub(super) fn counts(&self) -> Counts {
        self.platter().counts
    }

    /// What would be read from it now.
    pub(super) fn image(&self) -> Image {
        self.platter().now.clone()
    }

    /// Is everything that was written durable?
    pub(super) fn is_synced(&self) -> bool {
        let platter = self.platter();
        platter.pending.is_empty() && platter.durable.len() == platter.now.len()
    }

    /// From now on, notes what is done to it.
    pub(super) fn record(&self) {
        self.platter().tape = Some(Vec::new());
    }

    /// What was done to it since [`Disk::record`], or since this was asked last.
    pub(super) fn recorded(&self) -> Vec<Operation> {
        self.platter().tape.as_mut().map(mem::take).expect("it records")
    }

    /// Does it again. Whoever cuts power must do so before a sync, which makes durable what was pending.
    pub(super) fn replay(&self, operation: &Operation) {
        self.platter().apply(operation);
    }

    /// Every mode of a power cut now, with either length if it changed; the random ones differ from seed to seed.
    pub(super) fn power_cuts(&self, seed: u64) -> Vec<Leaves> {
        let platter = self.platter();
        let is_length_pending = platter.durable.len() != platter.now.len();
        Leaves::every(seed).filter(|leaves| leaves.length || is_length_pending).collect()
    }

    /// The disk as the next start finds it if power is cut now.
    pub(super) fn after_power_cut(&self, leaves: Leaves) -> Self {
        let platter = self.platter();
        let mut image = platter.durable.clone();
        if leaves.length {
            image.resize(platter.now.len());
        }
        for &sector in &platter.pending {
            let start = sector * SECTOR;
            let end = (start + leaves.bytes_of(sector)).min(image.len()).min(platter.now.len());
            if start < end {
                image.write(start, &platter.now.bytes(start..end));
            }
        }
        Self::holding(image)
    }

    /// How many operations it noted since [`Disk::record`].
    pub(super) fn noted(&self) -> usize {
        self.platter().tape.as_ref().map_or(0, Vec::len)
    }

    /// Lets this happen before each operation, but for those that it does itself; until it says that it was enough.
    pub(super) fn interrupt(&self, with: impl FnMut() -> ControlFlow<()> + Send + 'static) {
        self.platter().interrupt = Some(Interrupt(Box::new(with)));
    }

    fn operate(&self, operation: Operation) -> io::Result<()> {
        let interrupt = self.platter().interrupt.take();
        if let Some(mut interrupt) = interrupt
            && (interrupt.0)().is_continue()
        {
            self.platter().interrupt = Some(interrupt);
        }
        self.platter().operate(operation)
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl Leaves {
    pub(super) fn every(seed: u64) -> impl Iterator<Item = Self> {
        let sectors = [Sectors::All, Sectors::Nothing, Sectors::Some(seed), Sectors::Torn(!seed)];
        sectors.into_iter().flat_map(|sectors| [true, false].map(|length| Self { sectors, length }))
    }

    /// How many bytes of this sector are new.
    fn bytes_of(self, sector: usize) -> usize {
        match self.sectors {
            Sectors::All => SECTOR,
            Sectors::Nothing => 0,
            Sectors::Some(seed) if mix(seed, sector).is_multiple_of(2) => SECTOR,
            Sectors::Some(_) => 0,
            Sectors::Torn(seed) => mix(seed, sector) as usize % (SECTOR + 1),
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) fn mix(seed: u64, number: usize) -> u64 {
    let mut z = seed.wrapping_add((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Platter {
    /// Counts a call, which may fail.
    fn call(&mut self) -> io::Result<()> {
        let call = self.counts.calls;
        self.counts.calls += 1;
        match self.fails {
            Some(failure) if call == failure.at || failure.is_lasting && call > failure.at => Err(failure.kind.into()),
            _ => Ok(()),
        }
    }

    fn operate(&mut self, operation: Operation) -> io::Result<()> {
        self.call()?;
        self.apply(&operation);
        if let Some(tape) = &mut self.tape {
            tape.push(operation);
        }
        Ok(())
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { offset, data } => {
                self.now.write(*offset, data);
                self.pending.extend(offset / SECTOR..(offset + data.len()).div_ceil(SECTOR));
            }
            Operation::SetLen(len) => {
                let before = self.now.len();
                self.now.resize(*len);
                self.pending.extend(before / SECTOR..len.div_ceil(SECTOR));
            }
            Operation::Sync => {
                self.durable = self.now.clone();
                self.pending.clear();
                self.counts.syncs += 1;
            }
            Operation::SyncPages(range) => {
                self.durable.write(range.start, &self.now.bytes(range.clone()));
                (range.start / SECTOR..range.end.div_ceil(SECTOR)).for_each(|sector| _ = self.pending.remove(&sector));
                self.counts.syncs += 1;
            }
        }
    }
}

impl Backend for Disk {
    fn write_durably(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        self.write(offset, pages)?;
        let offset = offset as usize;
        self.operate(Operation::SyncPages(offset..offset + pages.len()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.platter();
        platter.call()?;
        platter.counts.read_bytes += out.len() as u64;
        platter.now.read(offset as usize, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operate(Operation::SetLen(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(Operation::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operate(Operation::Write { offset: offset as usize, data: data.to_vec() })
    }
}
