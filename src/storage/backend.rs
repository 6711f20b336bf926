//! What the store needs of a disk: what redb does, and one call more, for the journal.

use std::io;

use redb::StorageBackend;

/// A disk.
pub trait Backend: StorageBackend {
    /// Writes whole pages in place of others. They are durable once it returns; what else was written need not be.
    fn write_durably(&self, offset: u64, pages: &[u8]) -> io::Result<()> {
        self.write(offset, pages)?;
        self.sync_data()
    }
}
