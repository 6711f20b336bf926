//! A disk in memory. What is written is pending until it is synced; a power cut keeps of it what it likes.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

const SECTOR: usize = 512;

/// A handle on the disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    now: Vec<u8>,
    /// Sectors whose content in `now` may not be durable.
    pending: BTreeSet<usize>,
    /// Writes, changes of length and syncs so far.
    operations: u64,
    /// Syncs that completed.
    syncs: u64,
    fails: Option<Failure>,
    off: bool,
}

/// What goes wrong, and at which operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// Power is cut while this operation runs; it and all later ones fail.
    PowerCut(u64),
    /// This operation fails, and no other.
    Once(u64),
}

/// What a power cut leaves of what was pending.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaves {
    All,
    Nothing,
    /// Some sectors, and perhaps the new length.
    Some(u64),
    /// A prefix of each sector, and perhaps the new length.
    Torn(u64),
}

impl Disk {
    /// A disk on which `image` is durable.
    pub(super) fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter { durable: image.clone(), now: image, ..Platter::default() })))
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.platter().fails = Some(failure);
    }

    pub(super) fn operations(&self) -> u64 {
        self.platter().operations
    }

    pub(super) fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// What would be read from it now.
    pub(super) fn image(&self) -> Vec<u8> {
        self.platter().now.clone()
    }

    /// Is everything that was written durable?
    pub(super) fn is_synced(&self) -> bool {
        let platter = self.platter();
        platter.durable == platter.now
    }

    /// The disk as the next start finds it if power is cut now.
    pub(super) fn after_power_cut(&self, leaves: Leaves) -> Self {
        let platter = self.platter();
        let mut image = platter.durable.clone();
        if leaves.keeps_length() {
            image.resize(platter.now.len(), 0);
        }
        for &sector in &platter.pending {
            let start = sector * SECTOR;
            let end = (start + leaves.bytes_of(sector)).min(image.len()).min(platter.now.len());
            if start < end {
                image[start..end].copy_from_slice(&platter.now[start..end]);
            }
        }
        Self::holding(image)
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl Leaves {
    fn keeps_length(self) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Some(seed) | Self::Torn(seed) => mix(seed, usize::MAX).is_multiple_of(2),
        }
    }

    /// How many bytes of this sector are new.
    fn bytes_of(self, sector: usize) -> usize {
        match self {
            Self::All => SECTOR,
            Self::Nothing => 0,
            Self::Some(seed) if mix(seed, sector).is_multiple_of(2) => SECTOR,
            Self::Some(_) => 0,
            Self::Torn(seed) => mix(seed, sector) as usize % (SECTOR + 1),
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(seed: u64, sector: usize) -> u64 {
    let mut z = seed.wrapping_add((sector as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Platter {
    fn check_power(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("power is off")) } else { Ok(()) }
    }

    fn set_pending(&mut self, start: usize, end: usize) {
        self.pending.extend(start / SECTOR..end.div_ceil(SECTOR));
    }

    /// Counts an operation that `run` carries out; `run` is told whether it may complete.
    fn operate(&mut self, run: impl FnOnce(&mut Self, bool)) -> io::Result<()> {
        self.check_power()?;
        let operation = self.operations;
        self.operations += 1;
        match self.fails {
            Some(Failure::PowerCut(at)) if at == operation => {
                run(self, false);
                self.off = true;
                Err(io::Error::other("power was cut"))
            }
            Some(Failure::Once(at)) if at == operation => Err(io::Error::other("the disk failed, once")),
            _ => {
                run(self, true);
                Ok(())
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let platter = self.platter();
        platter.check_power()?;
        Ok(platter.now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        platter.check_power()?;
        let offset = offset as usize;
        let found = platter.now.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.platter().operate(|platter, _| {
            let before = platter.now.len();
            platter.now.resize(len as usize, 0);
            platter.set_pending(before, len as usize);
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.platter().operate(|platter, completes| {
            if completes {
                platter.durable = platter.now.clone();
                platter.pending.clear();
                platter.syncs += 1;
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.platter().operate(|platter, _| {
            let start = offset as usize;
            platter.now[start..start + data.len()].copy_from_slice(data);
            platter.set_pending(start, start + data.len());
        })
    }
}
