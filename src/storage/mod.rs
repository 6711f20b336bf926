//! The store: one redb file.
