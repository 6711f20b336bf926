//! The store's file.
//!
//! **Two ways in.** redb writes through the system's page cache, and syncs. The journal writes past it, where that is
//! possible: with `O_DIRECT` and `O_DSYNC` a write goes to the disk from where it lies, and returns when it is durable. Through
//! the cache there are pages to be found, marked, looked for again and handed on, which takes longer and half as much of the
//! processor again (docs/performance.md). The journal has its pages for itself, but for when the file is made and opened; and
//! there the system keeps both ways in step.
//!
//! **Two handles.** Both ways are gone at the same time, by different threads, and of a write that fails later Linux tells each
//! handle once, with the next sync by it. By a common one the tables' sync could be told of the journal's failure, and the
//! journal's of none. So the journal has a handle of its own where it goes through the cache, too.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, sync::Mutex};

use redb::{StorageBackend, backends::FileBackend};

use super::{backend::Backend, error::StoreError, layout::PAGE_BYTES};

/// An open store's file, and the lock that lives as long as it.
#[derive(Debug)]
pub(super) struct StoreFile {
    tables: FileBackend,
    journal: Way,
    _lock: File,
}

/// The journal's way in.
#[derive(Debug)]
enum Way {
    Direct(Direct),
    /// Not every system and file system has the other.
    Cached(File),
}

impl StoreFile {
    /// Takes over the file at `path`, and what locks it.
    pub(super) fn new(file: File, path: &Path, lock: File) -> Result<Self, StoreError> {
        let cached = || File::options().read(true).write(true).open(path).map(Way::Cached);
        let journal = Direct::open(path).map_or_else(cached, |direct| Ok(Way::Direct(direct)));
        let journal = journal.map_err(|source| StoreError::io("open the store once more", source))?;
        Ok(Self { tables: FileBackend::new(file)?, journal, _lock: lock })
    }
}

impl StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.tables.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.tables.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.tables.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.tables.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.tables.write(offset, data)
    }
}

impl Backend for StoreFile {
    fn write_durably(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        match &self.journal {
            Way::Direct(direct) => direct.write(offset, pages),
            Way::Cached(file) => {
                file.write_all_at(pages, offset)?;
                file.sync_data()
            }
        }
    }
}

/// What has but one way in: a file that is being made.
impl Backend for FileBackend {}

/// The way past the page cache.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there is no such way"))]
struct Direct {
    file: File,
    buffer: Mutex<Buffer>,
}

impl Direct {
    /// `None` where there is no such way, or where a write by it might return before it is durable: to keep that promise is
    /// the file system's part, and behind some there is a server that was never asked to. ext4, with ext2 and ext3, and XFS
    /// sync such a write by themselves.
    #[cfg(target_os = "linux")]
    fn open(path: &Path) -> Option<Self> {
        use std::os::unix::fs::OpenOptionsExt;

        let flags = libc::O_DIRECT | libc::O_DSYNC;
        let file = File::options().read(true).write(true).custom_flags(flags).open(path).ok()?;
        let file_system = rustix::fs::fstatfs(&file).ok()?.f_type;
        if ![libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&file_system) {
            return None;
        }
        let mut buffer = Buffer::default();
        // Where a disk's sectors are longer than our pages, it fails.
        file.read_exact_at(buffer.pages(PAGE_BYTES as usize), 0).ok()?;
        Some(Self { file, buffer: Mutex::new(buffer) })
    }

    #[cfg(not(target_os = "linux"))]
    fn open(_path: &Path) -> Option<Self> {
        None
    }

    fn write(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer.lock().expect("nothing panics under this lock");
        let aligned = buffer.pages(pages.len());
        aligned.copy_from_slice(pages);
        self.file.write_all_at(aligned, offset)
    }
}

/// Memory that begins where a page does, as `O_DIRECT` wants it.
#[derive(Debug, Default)]
struct Buffer(Vec<u8>);

impl Buffer {
    /// So many bytes of it.
    fn pages(&mut self, bytes: usize) -> &mut [u8] {
        let page_bytes = PAGE_BYTES as usize;
        if self.0.len() < bytes + page_bytes {
            self.0.resize(bytes + page_bytes, 0);
        }
        let from = self.0.as_ptr().addr().wrapping_neg() % page_bytes;
        &mut self.0[from..from + bytes]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PAGE: usize = PAGE_BYTES as usize;
    const PAGES: usize = 64;

    fn opened(path: &Path) -> StoreFile {
        let open = || File::options().read(true).write(true).open(path).unwrap();
        StoreFile::new(open(), path, open()).unwrap()
    }

    /// Files of zeros: one with every way that there is here, one with that through the cache alone.
    fn files() -> Vec<(tempfile::NamedTempFile, StoreFile)> {
        let made = |is_direct: bool| {
            let place = tempfile::NamedTempFile::new().unwrap();
            fs::write(place.path(), vec![0; PAGES * PAGE]).unwrap();
            let mut file = opened(place.path());
            if !is_direct {
                file.journal = Way::Cached(File::options().read(true).write(true).open(place.path()).unwrap());
            }
            (place, file)
        };
        let files = vec![made(true), made(false)];
        if let Way::Cached(_) = files[0].1.journal {
            println!("skipped: nothing can be written past the page cache here");
        }
        files
    }

    /// Pages, each of which has a byte of its own everywhere.
    fn pages(first: u8, count: usize) -> Vec<u8> {
        (0..count).flat_map(|page| vec![first.wrapping_add(page as u8); PAGE]).collect()
    }

    #[test]
    fn what_is_written_durably_is_what_is_read() {
        for (place, file) in files() {
            let mut expected = vec![0; PAGES * PAGE];
            // Longer and shorter ones in turn, over each other, from an address that is no page's.
            for (first, at, count) in [(1, 0, 1), (10, 3, 40), (60, 5, 2), (70, 63, 1), (80, 1, 63), (200, 2, 1)] {
                let written = [&[0xff][..], &pages(first, count)].concat();
                // What lies in the page cache from here on is out of date at the end.
                let mut before = vec![0; PAGES * PAGE];
                file.read(0, &mut before).unwrap();
                assert_eq!(before, expected);
                file.write_durably((at * PAGE) as u64, &written[1..]).unwrap();
                expected[at * PAGE..(at + count) * PAGE].copy_from_slice(&written[1..]);
                let mut read = vec![0; PAGES * PAGE];
                file.read(0, &mut read).unwrap();
                assert_eq!(read, expected);
            }
            drop(file);
            assert_eq!(fs::read(place.path()).unwrap(), expected);
        }
    }

    #[test]
    fn both_ways_lead_to_one_file() {
        for (place, file) in files() {
            let (cached, durable) = (pages(1, 1), pages(2, 1));
            for page in 0..PAGES / 2 {
                file.write((2 * page * PAGE) as u64, &cached).unwrap();
                file.write_durably(((2 * page + 1) * PAGE) as u64, &durable).unwrap();
            }
            // In place of each other, too.
            file.write_durably(0, &durable).unwrap();
            file.write(PAGE as u64, &cached).unwrap();
            file.sync_data().unwrap();
            let mut expected = [cached.clone(), durable.clone()].concat().repeat(PAGES / 2);
            expected[..2 * PAGE].copy_from_slice(&[durable, cached].concat());
            assert_eq!(fs::read(place.path()).unwrap(), expected);
        }
    }

    #[test]
    fn a_write_that_fails_says_so() {
        for (place, file) in files() {
            let read_only = || File::open(place.path()).unwrap();
            let journal = match file.journal {
                Way::Direct(direct) => Way::Direct(Direct { file: read_only(), ..direct }),
                Way::Cached(_) => Way::Cached(read_only()),
            };
            let file = StoreFile { tables: FileBackend::new(read_only()).unwrap(), journal, _lock: read_only() };
            file.write_durably(0, &pages(1, 1)).unwrap_err();
        }
    }

    /// Lest the short way be lost, or what makes it safe, without a word.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_way_past_the_cache_is_taken_where_there_is_one_and_syncs_data() {
        let (place, file) = files().remove(0);
        let file_system = rustix::fs::statfs(place.path()).unwrap().f_type;
        let Way::Direct(direct) = file.journal else {
            return assert!(![libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&file_system));
        };
        let flags = rustix::fs::fcntl_getfl(&direct.file).unwrap().bits().cast_signed();
        assert_eq!(flags & (libc::O_DIRECT | libc::O_SYNC), libc::O_DIRECT | libc::O_DSYNC);
    }

    #[test]
    fn memory_begins_where_a_page_does_and_grows() {
        let mut buffer = Buffer::default();
        for count in [1, 3, 2, 256, 1] {
            let pages = buffer.pages(count * PAGE);
            assert_eq!((pages.len(), pages.as_ptr().addr() % PAGE), (count * PAGE, 0));
        }
    }
}
