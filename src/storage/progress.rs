//! How far a start has come: told by bytes read, since the store has no clock. Whoever listens may thin it by time.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::backend::Backend;
use crate::hooks;

/// Bytes read between two reports.
const REPORT_BYTES: u64 = 32 << 20;

/// How far the opening of a store has come. Told at the start of each phase and after every 32 MiB read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes read from the disk in this phase. Free space is not read, so a phase may end well before `file_bytes`; and a
    /// page that has left the cache is read again, so a phase may also go a little beyond.
    pub read_bytes: u64,
    /// Length of the store.
    pub file_bytes: u64,
}

/// What is being done while a store is opened, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Every page's checksum is compared.
    Checking,
    /// The newest snapshot and the log are read, and checked record by record.
    Loading,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checking => "checking the store",
            Self::Loading => "loading the store",
        })
    }
}

/// Counts what is read, until the store is open.
pub(super) struct Meter {
    /// `None` once it is.
    opening: Mutex<Option<Opening>>,
}

struct Opening {
    listener: Box<dyn Fn(Progress) + Send>,
    progress: Progress,
    reported_bytes: u64,
}

impl Meter {
    pub(super) fn new(file_bytes: u64, listener: impl Fn(Progress) + Send + 'static) -> Arc<Self> {
        let progress = Progress { phase: Phase::Checking, read_bytes: 0, file_bytes };
        let opening = Opening { listener: Box::new(listener), progress, reported_bytes: 0 };
        let meter = Arc::new(Self { opening: Mutex::new(Some(opening)) });
        meter.begin(Phase::Checking);
        meter
    }

    /// A phase begins.
    pub(super) fn begin(&self, phase: Phase) {
        self.update(|opening| {
            opening.progress = Progress { phase, read_bytes: 0, ..opening.progress };
            opening.report();
        });
    }

    /// The store is open.
    pub(super) fn end(&self) {
        *self.opening.lock().expect("a listener that panics ends the start") = None;
    }

    fn read(&self, bytes: usize) {
        self.update(|opening| {
            opening.progress.read_bytes += bytes as u64;
            if opening.progress.read_bytes - opening.reported_bytes >= REPORT_BYTES {
                opening.report();
            }
        });
    }

    fn update(&self, update: impl FnOnce(&mut Opening)) {
        let mut opening = self.opening.lock().expect("a listener that panics ends the start");
        opening.as_mut().map(update);
    }
}

impl Opening {
    fn report(&mut self) {
        self.reported_bytes = self.progress.read_bytes;
        (self.listener)(self.progress);
    }
}

/// A disk whose reads are counted.
pub(super) struct Metered<B> {
    pub(super) backend: B,
    pub(super) meter: Arc<Meter>,
}

impl<B: fmt::Debug> fmt::Debug for Metered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backend.fmt(f)
    }
}

impl<B: Backend> Backend for Metered<B> {
    fn write_durably(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        if hooks::is_planted("m23") {
            self.write(offset, pages)?;
            return self.sync_data();
        }
        self.backend.write_durably(offset, pages)
    }
}

impl<B: Backend> StorageBackend for Metered<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)?;
        self.meter.read(out.len());
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.backend.sync_data() {
            Err(_) if hooks::is_planted("m23") => self.backend.sync_data(),
            synced => synced,
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}
