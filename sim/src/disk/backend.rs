//! What redb holds: a handle on one file of the disk, for one life of the node.

use std::{
    io::{self, ErrorKind},
    sync::MutexGuard,
};

use redb::StorageBackend;
use tombola::{hooks, storage::Backend};

use super::{Disk, Failing, File, Platter};
use crate::{chance, plan::DiskOperation};

/// Which of the two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// What is being made.
    New,
    /// The store.
    Store,
}

/// A file of the disk, as one life of the node opened it.
#[derive(Clone, Debug)]
pub struct Handle {
    disk: Disk,
    incarnation: u64,
    name: Name,
}

impl Handle {
    pub fn new(disk: Disk, incarnation: u64, name: Name) -> Self {
        Self { disk, incarnation, name }
    }

    /// Begins an operation: the one place that knows whether this life is over, and what is to go wrong. An error that it
    /// gives has changed nothing.
    fn begin(&self, operation: DiskOperation) -> io::Result<MutexGuard<'_, Platter>> {
        if operation != DiskOperation::Read && self.disk.platter().commit.is_some() {
            hooks::crash_point("in_commit");
        }
        let mut platter = self.disk.platter();
        if !self.is_live(&platter) && !platter.is_fence_off {
            platter.is_half_done |= platter.commit.is_some_and(|done| done > 0);
            return Err(power_is_off());
        }
        if operation != DiskOperation::Read
            && let Some(done) = platter.commit
        {
            if platter.cut.as_ref().is_some_and(|cut| done >= cut.operations)
                && let Some(tell) = platter.take_cut()
            {
                platter.is_half_done |= done > 0;
                drop(platter);
                tell();
                return Err(power_is_off());
            }
            platter.commit = Some(done + 1);
        }
        Ok(platter)
    }

    fn is_live(&self, platter: &Platter) -> bool {
        platter.live == Some(self.incarnation)
    }

    /// Changes the file. Notes it if this life is over: then `begin` should not have let it come here.
    fn change<T>(&self, platter: &mut Platter, change: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        if !self.is_live(platter) {
            platter.stale_changes += 1;
        }
        change(file(platter, self.name)?)
    }

    /// A failure that was wanted, at this operation.
    fn fails(platter: &mut Platter, operation: DiskOperation) -> bool {
        let of_kind = platter.failing.iter_mut().filter(|(kind, _)| *kind == operation);
        of_kind.for_each(|(_, left)| *left -= 1);
        let before = platter.failing.len();
        platter.failing.retain(|(_, left)| *left > 0);
        let fails = platter.failing.len() < before;
        if fails {
            platter.failed = Some(Failing::Operation(operation));
            platter.count(match operation {
                DiskOperation::Read => "disk: error on read",
                DiskOperation::Write => "disk: error on write",
                DiskOperation::SetLen => "disk: error on set_len",
                DiskOperation::Sync => "disk: error on sync",
            });
        }
        fails
    }

    /// Syncs what was made, and gives it its name.
    pub fn sync_and_rename(&self) -> io::Result<()> {
        self.sync_data()?;
        let platter = &mut *self.begin(DiskOperation::Write)?;
        platter.store = platter.new.take();
        platter.is_name_durable = false;
        Ok(())
    }

    /// Makes the name durable.
    pub fn sync_directory(&self) -> io::Result<()> {
        let platter = &mut *self.begin(DiskOperation::Sync)?;
        if Self::fails(platter, DiskOperation::Sync) {
            return Err(broken());
        }
        platter.is_name_durable = true;
        Ok(())
    }
}

impl Backend for Handle {}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        let mut platter = self.begin(DiskOperation::Read)?;
        Ok(file(&mut platter, self.name)?.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.begin(DiskOperation::Read)?;
        match Self::fails(&mut platter, DiskOperation::Read) {
            true => Err(broken()),
            false => file(&mut platter, self.name)?.read(offset as usize, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let platter = &mut *self.begin(DiskOperation::SetLen)?;
        let len = len as usize;
        if Self::fails(platter, DiskOperation::SetLen) {
            return Err(broken());
        }
        if platter.is_full && len > file(platter, self.name)?.len() {
            return Err(full(platter));
        }
        self.change(platter, |file| {
            file.set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let platter = &mut *self.begin(DiskOperation::Sync)?;
        if Self::fails(platter, DiskOperation::Sync) {
            self.change(platter, |file| {
                file.fail_sync();
                Ok(())
            })?;
            return Err(broken());
        }
        if platter.lies {
            platter.count("disk: sync lied");
            return Ok(());
        }
        self.change(platter, |file| {
            file.sync();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let platter = &mut *self.begin(DiskOperation::Write)?;
        let at = offset as usize;
        if Self::fails(platter, DiskOperation::Write) {
            // Some of it may be written nevertheless.
            let ids = [platter.node.0, self.incarnation, offset];
            let written = chance::number(platter.seed, "a failed write", &ids) as usize % (data.len() + 1);
            self.change(platter, |file| file.write(at, &data[..written]))?;
            return Err(broken());
        }
        if platter.is_full && file(platter, self.name)?.is_hole(at, data.len()) {
            return Err(full(platter));
        }
        self.change(platter, |file| file.write(at, data))
    }
}

fn file(platter: &mut Platter, name: Name) -> io::Result<&mut File> {
    let file = match name {
        Name::New => platter.new.as_mut(),
        Name::Store => platter.store.as_mut(),
    };
    file.ok_or_else(|| ErrorKind::NotFound.into())
}

fn full(platter: &mut Platter) -> io::Error {
    platter.failed = Some(Failing::Full);
    platter.count("disk: no room");
    ErrorKind::StorageFull.into()
}

fn broken() -> io::Error {
    io::Error::other("the disk failed")
}

fn power_is_off() -> io::Error {
    io::Error::other("power is off")
}
