//! How many bytes of log a draw takes, read out of a stopped node's store.

use std::path::Path;

use tombola::{
    durable::{EntryKind, RecoveredState},
    pool::Batch,
    storage::{self, Wanted},
    types::{ClusterId, DiskId, ReplicaId, ShardId},
};

/// Bytes of log entries with draws for each draw in them, of those that the first node's log still holds.
pub fn bytes_per_draw(data_dir: &Path, cluster: ClusterId) -> f64 {
    let wanted = Wanted { cluster, shard: ShardId::FIRST, replica: ReplicaId(1) };
    let (_, recovered) = storage::open(data_dir, wanted, DiskId([0; 16]), |_| {}).expect("the node is stopped");
    let RecoveredState::Founded(log) = recovered.state else { panic!("the node was founded") };
    let (mut bytes, mut draws) = (0, 0);
    // A leader's first entry is empty.
    for entry in log.entries.iter().filter(|entry| entry.kind == EntryKind::Normal && !entry.data.is_empty()) {
        let batch = Batch::decode(&entry.data).expect("a committed batch");
        let drawn: usize = batch.commands.iter().map(|command| usize::from(command.draws())).sum();
        if drawn > 0 {
            bytes += entry.data.len();
            draws += drawn;
        }
    }
    assert!(draws > 0, "the log holds no draws any more");
    bytes as f64 / draws as f64
}
