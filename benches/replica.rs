//! The core without its surroundings: one replica alone, and three in lock step in one process, on one thread, whose disks
//! and networks take no time. What is proposed is committed, applied by all and answered.

mod support;

use std::{collections::BTreeMap, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use support::{START, Shape, batch, catalog, command, draws, key};
use tombola::{
    durable::{CHUNK_BYTES, Founders, HardState, Identity, RecoveredLog, Snapshot, SnapshotMeta},
    pool::{Action, Batch, Limits, StateMachine},
    replica::{Config, Input, Output, ProposalId, ProposalResult, Replica, Role, SnapshotPolicy},
    types::{ClusterId, DiskId, Index, ReplicaId, ShardId, Term},
};

const ELECTION_TICKS: usize = 10;
/// 1,024 draws an entry, under as many keys, and under few.
const SHAPES: [Shape; 2] = [Shape { keys: 1_024, draws: 1 }, Shape { keys: 8, draws: 128 }];

/// Replicas that see each other's messages and the end of their writes at once.
struct Cluster {
    replicas: BTreeMap<ReplicaId, Replica>,
    leader: ReplicaId,
    proposed: u64,
    answered: u64,
}

impl Cluster {
    fn new(count: u64) -> Self {
        let ids: Vec<_> = (1..=count).map(ReplicaId).collect();
        let replicas = ids.iter().map(|&id| (id, replica(id, &ids))).collect();
        let mut cluster = Self { replicas, leader: ReplicaId(1), proposed: 0, answered: 0 };
        let mut ticks = 0;
        while !cluster.replicas.values().any(|replica| replica.role() == Role::Leader && replica.can_propose()) {
            assert!(ticks < 100 * ELECTION_TICKS, "nobody leads");
            ids.iter().for_each(|&id| cluster.input(id, Input::Tick));
            ticks += 1;
        }
        let leads = |id: &&ReplicaId| cluster.replicas[id].role() == Role::Leader;
        cluster.leader = *ids.iter().find(leads).expect("one leads");
        let action = Action::ImportCatalog { items: catalog(6), draw_seq: Default::default() };
        cluster.propose(batch(START, vec![command(key(u64::MAX, START), action)]));
        cluster
    }

    fn propose(&mut self, batch: Batch) {
        let (before, len) = (self.answered, batch.commands.len() as u64);
        let ids = (self.proposed..).map(ProposalId);
        let commands = ids.zip(batch.commands).collect();
        self.proposed += len;
        self.input(self.leader, Input::Propose { time: batch.time, entropy: batch.entropy, commands });
        assert_eq!(self.answered - before, len, "all are answered");
    }

    /// Gives a replica an input, and does all that follows from it.
    fn input(&mut self, at: ReplicaId, input: Input) {
        let mut inputs = vec![(at, input)];
        while let Some((at, input)) = inputs.pop() {
            let replica = self.replicas.get_mut(&at).expect("it is one of them");
            replica.handle(input).expect("nothing is broken");
            let mut written = None;
            while let Some(output) = replica.poll_output() {
                match output {
                    Output::Send { to, message } => inputs.insert(0, (to, Input::Message { from: at, message })),
                    Output::Persist(write) => written = Some(write.number),
                    Output::Proposals(results) => {
                        for (_, result) in results {
                            let ProposalResult::Applied(outcome) = result else { panic!("{result:?}") };
                            assert!(black_box(outcome).result.is_ok());
                            self.answered += 1;
                        }
                    }
                    Output::Checkpoint(_) | Output::Discard(_) => {}
                    other => panic!("nobody asked for {other:?}"),
                }
            }
            inputs.extend(written.map(|number| (at, Input::Persisted { number })));
        }
    }

    /// Has the followers told by a heartbeat what is committed, and compares all.
    fn check(&mut self) {
        let ids: Vec<_> = self.replicas.keys().copied().collect();
        (0..ELECTION_TICKS / 2).for_each(|_| self.input(self.leader, Input::Tick));
        let digests: Vec<_> = ids.iter().map(|id| self.replicas[id].machine().digests()).collect();
        assert!(digests.iter().all(|other| *other == digests[0]), "{digests:?}");
    }
}

fn replica(id: ReplicaId, voters: &[ReplicaId]) -> Replica {
    let identity = |replica: ReplicaId| Identity {
        cluster: ClusterId([7; 16]),
        shard: ShardId::FIRST,
        replica,
        disk: DiskId([replica.0 as u8; 16]),
    };
    let limits = Limits { keys_bytes_max: 64 << 30, ..Limits::default() };
    let disks = voters.iter().map(|&voter| (voter, identity(voter).disk)).collect();
    let body = StateMachine::founding(limits).snapshot().encode();
    let meta = SnapshotMeta {
        index: Index::FOUNDING,
        term: Term(1),
        voters: voters.to_vec(),
        founders: Founders { cluster: identity(id).cluster, limits, disks },
        body_bytes: body.len() as u64,
        body_sha256: Sha256::digest(&body).into(),
    };
    let recovered = RecoveredLog {
        genesis: meta.genesis(),
        hard_state: HardState { term: Term(1), vote: ReplicaId(0), commit: Index::FOUNDING },
        truncated: (Index::FOUNDING, Term(1)),
        snapshot: Snapshot { meta, body: body.chunks(CHUNK_BYTES).map(|chunk| chunk.to_vec().into()).collect() },
        entries: Vec::new(),
    };
    let never = SnapshotPolicy { log_bytes_min: u64::MAX, log_bytes_max: u64::MAX, ..SnapshotPolicy::default() };
    let config = Config {
        heartbeat_ticks: 2,
        election_ticks: ELECTION_TICKS,
        election_seed: 1,
        boot_nonce: id.0,
        messages_max: 64,
        message_bytes_max: 256 << 10,
        uncommitted_bytes_max: 16 << 20,
        snapshots: never,
        checkpoint_every: 1_024,
    };
    Replica::new(config, identity(id), recovered).expect("it has just been founded")
}

fn propose(criterion: &mut Criterion) {
    for count in [1, 3] {
        let mut group = criterion.benchmark_group(format!("propose to applied by {count}"));
        group.sample_size(20);
        for shape in SHAPES {
            group.throughput(Throughput::Elements(shape.keys * u64::from(shape.draws)));
            let name = format!("{} keys x {}", shape.keys, shape.draws);
            // The log is never cut here, so that every sample has a cluster of its own.
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut cluster = Cluster::new(count);
                    let mut took = std::time::Duration::ZERO;
                    for number in 1..=iterations {
                        let batch = draws(shape, number);
                        let start = std::time::Instant::now();
                        cluster.propose(batch);
                        took += start.elapsed();
                    }
                    cluster.check();
                    took
                });
            });
        }
    }
}

criterion_group!(benches, propose);
criterion_main!(benches);
