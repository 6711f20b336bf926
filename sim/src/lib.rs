//! What Tombola is judged by.
