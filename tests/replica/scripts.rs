//! Golden scripts: `scripts/*` are what a reader reads first about a replica. `UPDATE_GOLDENFILES=1` writes their output
//! anew.

use std::{error::Error, fmt::Write, path::Path};

use tombola::{
    pool::{Action, Actor, CatalogItem, Command, KeyOrigin, PoolId, RequestKey, Stock, Weight},
    replica::{Input, ProposalResult, RaftBody, RaftMessage, SnapshotPolicy},
    types::{Index, Millis, ReplicaId},
};

use crate::{
    cluster::{Cluster, Settings},
    transfer::Chunk,
};

/// What a script can say.
#[derive(goldenscript::Command)]
enum Say {
    /// Founds a cluster of so many replicas, which take a snapshot after so many bytes of log and keep so many entries
    /// before it, for peers that are behind as long as the log is shorter than so much.
    Cluster {
        count: u64,
        #[arg(key)]
        snapshot_bytes: Option<u64>,
        #[arg(key)]
        trailing: Option<u64>,
        #[arg(key)]
        log_bytes: Option<u64>,
        #[arg(key)]
        checkpoint_every: Option<u64>,
    },
    /// So many ticks for one replica, or for all.
    Tick {
        replica: Option<u64>,
        #[arg(key)]
        times: Option<usize>,
    },
    /// Delivers what is under way, to one replica or to all, without persisting anything.
    Deliver(Option<u64>),
    /// Loses everything that is under way.
    Lose,
    /// Makes everything queued by one replica, or by all, durable.
    Persist(Option<u64>),
    /// Delivers and persists until nothing is left to do.
    Settle,
    /// Ticks and settles until everybody knows the leader.
    Elect,
    /// Cuts a replica off from all others, both ways.
    Isolate(u64),
    /// Ends all cuts.
    Heal,
    /// Ends a replica; what it had queued for its disk is lost, but for so many writes.
    Crash {
        replica: u64,
        #[arg(key)]
        kept: Option<usize>,
    },
    /// Stages a replica's own snapshot, as far as its disk.
    Stage(u64),
    /// The next chunks, so many, of the snapshot that a replica sends arrive.
    SendChunks { from: u64, count: usize },
    /// A replica gives up sending its snapshot.
    GiveUp(u64),
    /// The leader's newest snapshot arrives at a replica, though raft sent none.
    Unasked { from: u64, to: u64 },
    /// Hands the snapshot that has arrived to the replica.
    HandOver(u64),
    /// Damages an entry on the disk of a replica that is down, unnoticed.
    Rot {
        replica: u64,
        #[arg(key)]
        entry: u64,
    },
    /// Starts it again.
    Restart(u64),
    /// Stocks the pool with `ID:STOCK:WEIGHT` items.
    Stock { at: u64, items: Vec<String> },
    /// Draws so many times under the numbered key.
    Draw {
        at: u64,
        #[arg(key)]
        key: u64,
        #[arg(key)]
        count: Option<u16>,
    },
    /// Asks for a linearizable read.
    Read(u64),
    /// Hands leadership over.
    Transfer { from: u64, to: u64 },
    /// Shows every replica.
    Status,
}

struct Script {
    cluster: Cluster,
}

impl goldenscript::Runner for Script {
    type Command = Say;

    fn run(&mut self, say: &Say, _context: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let cluster = &mut self.cluster;
        let chosen = |replica: &Option<u64>, cluster: &Cluster| match replica {
            Some(id) => vec![ReplicaId(*id)],
            None => cluster.ids(),
        };
        let mut output = String::new();
        match say {
            Say::Cluster { count, snapshot_bytes, trailing, log_bytes, checkpoint_every } => {
                let default = Settings::default();
                let snapshots = SnapshotPolicy {
                    log_bytes_min: snapshot_bytes.unwrap_or(default.snapshots.log_bytes_min),
                    trailing_entries: trailing.unwrap_or(default.snapshots.trailing_entries),
                    log_bytes_max: log_bytes.unwrap_or(default.snapshots.log_bytes_max),
                    ..default.snapshots
                };
                let checkpoint_every = checkpoint_every.unwrap_or(default.checkpoint_every);
                *cluster = Cluster::new(*count, 1, Settings { snapshots, checkpoint_every });
            }
            Say::Tick { replica, times } => {
                for _ in 0..times.unwrap_or(1) {
                    chosen(replica, cluster).into_iter().for_each(|id| cluster.tick(id));
                }
            }
            Say::Deliver(to) => deliver(cluster, &chosen(to, cluster), &mut output)?,
            Say::Lose => cluster.network.clear(),
            Say::Persist(replica) => {
                for id in chosen(replica, cluster) {
                    while !cluster.nodes[&id].disk.queued.is_empty() {
                        cluster.persist(id);
                    }
                }
            }
            Say::Settle => cluster.settle(),
            Say::Elect => {
                let leader = cluster.elect();
                writeln!(output, "replica {leader} leads in term {}", cluster.replica(leader).term())?;
            }
            Say::Isolate(id) => {
                for other in cluster.ids() {
                    cluster.cut.extend([(ReplicaId(*id), other), (other, ReplicaId(*id))]);
                }
            }
            Say::Heal => cluster.cut.clear(),
            Say::Crash { replica, kept } => cluster.crash(ReplicaId(*replica), kept.unwrap_or_default()),
            Say::Stage(id) => {
                while cluster.nodes[&ReplicaId(*id)].taking.is_some() {
                    cluster.stage(ReplicaId(*id));
                }
            }
            Say::SendChunks { from, count } => {
                (0..*count).for_each(|_| cluster.transfer(ReplicaId(*from), Chunk::Arrives));
            }
            Say::GiveUp(from) => cluster.transfer(ReplicaId(*from), Chunk::GivenUp),
            Say::Unasked { from, to } => cluster.send_unasked(ReplicaId(*from), ReplicaId(*to)),
            Say::HandOver(id) => cluster.hand_over(ReplicaId(*id)),
            Say::Rot { replica, entry } => cluster.rot(ReplicaId(*replica), Index(*entry)),
            Say::Restart(id) => cluster.restart(ReplicaId(*id)),
            Say::Stock { at, items } => {
                let items = items.iter().map(|text| catalog_item(text)).collect::<Result<_, _>>()?;
                let action = Action::ImportCatalog { items, draw_seq: Default::default() };
                cluster.propose(ReplicaId(*at), vec![command(0, action)]);
            }
            Say::Draw { at, key, count } => {
                let action = Action::Draw { count: count.unwrap_or(1) };
                cluster.propose(ReplicaId(*at), vec![command(*key, action)]);
            }
            Say::Read(at) => {
                cluster.read(ReplicaId(*at));
            }
            Say::Transfer { from, to } => {
                cluster.replica(ReplicaId(*from)).check_transfer(ReplicaId(*to))?;
                cluster.input(ReplicaId(*from), Input::Transfer { to: ReplicaId(*to) });
            }
            Say::Status => status(cluster, &mut output)?,
        }
        answers(cluster, &mut output)?;
        Ok(output)
    }
}

/// Delivers what is in the bag now, in the order it was sent, and shows it.
fn deliver(cluster: &mut Cluster, to: &[ReplicaId], output: &mut String) -> Result<(), Box<dyn Error>> {
    for message in std::mem::take(&mut cluster.network) {
        if to.contains(&message.to) {
            writeln!(output, "{}", shown(&message))?;
            cluster.input(message.to, Input::Message { from: message.from, message });
        } else {
            cluster.network.push(message);
        }
    }
    Ok(())
}

fn shown(message: &RaftMessage) -> String {
    let body = match &message.body {
        RaftBody::Append { index, log_term, commit, entries } => {
            format!("Append after {index}@{log_term} commit={commit} entries={}", entries.len())
        }
        RaftBody::AppendResponse { index, reject: false, commit, .. } => format!("Appended {index} commit={commit}"),
        RaftBody::AppendResponse { index, reject_hint, .. } => format!("Rejected {index} hint={reject_hint}"),
        RaftBody::RequestVote { pre, index, log_term, .. } => {
            format!("Request{}Vote last={index}@{log_term}", if *pre { "Pre" } else { "" })
        }
        RaftBody::RequestVoteResponse { pre, reject, .. } => {
            format!("{}Vote {}", if *pre { "Pre" } else { "" }, if *reject { "refused" } else { "given" })
        }
        RaftBody::Heartbeat { commit, context } => {
            format!("Heartbeat commit={commit} confirms={}", !context.is_empty())
        }
        RaftBody::HeartbeatResponse { context, .. } => format!("HeartbeatResponse confirms={}", !context.is_empty()),
        RaftBody::ReadIndex { .. } => "ReadIndex".into(),
        RaftBody::ReadIndexResponse { index, .. } => format!("ReadIndexResponse {index}"),
        RaftBody::TimeoutNow => "TimeoutNow".into(),
        RaftBody::Snapshot { meta } => format!("Snapshot at {}@{}", meta.index, meta.term),
    };
    format!("{}→{} term={} {body}", message.from, message.to, message.term)
}

/// Shows and forgets what was answered.
fn answers(cluster: &mut Cluster, output: &mut String) -> Result<(), Box<dyn Error>> {
    for (id, node) in &mut cluster.nodes {
        if let Some(broken) = node.stopped.take() {
            let what = broken.to_string();
            writeln!(output, "replica {id} stops: {}", what.split(';').next().expect("there is a first part"))?;
        }
        for note in std::mem::take(&mut node.notes) {
            writeln!(output, "replica {id} {note}")?;
        }
        for result in std::mem::take(&mut node.results).into_values() {
            match result {
                ProposalResult::Applied(outcome) => {
                    let again = if outcome.replayed { "replayed " } else { "" };
                    writeln!(output, "replica {id} answers at {}: {again}{:?}", outcome.index, outcome.result)?;
                }
                other => writeln!(output, "replica {id} answers: {other:?}")?,
            }
        }
        for (index, pool) in std::mem::take(&mut node.reads).into_values() {
            let items: Vec<_> = pool.items.iter().map(|item| format!("{} {:?}", item.id, item.stock)).collect();
            writeln!(output, "replica {id} reads at {index}: {}", items.join(", "))?;
        }
    }
    Ok(())
}

fn status(cluster: &Cluster, output: &mut String) -> Result<(), Box<dyn Error>> {
    for (id, node) in &cluster.nodes {
        let Some(replica) = &node.replica else {
            writeln!(output, "{id} down")?;
            continue;
        };
        let status = replica.status();
        let (role, term, last, commit) = (status.role, status.term, status.last_index, status.commit);
        let (applied, queued) = (status.digests.index, node.disk.queued.len());
        write!(output, "{id} {role:?} term={term} last={last} commit={commit} applied={applied} queued={queued}")?;
        if status.snapshot_index > Index::FOUNDING {
            write!(output, " snapshot={} first={}", status.snapshot_index, status.first_index)?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn catalog_item(text: &str) -> Result<CatalogItem, Box<dyn Error>> {
    let [item, stock, weight] = text.split(':').collect::<Vec<_>>()[..] else { return Err("ID:STOCK:WEIGHT".into()) };
    let stock = if stock == "-1" { Stock::Unlimited } else { Stock::Finite(stock.parse()?) };
    Ok(CatalogItem { item: item.parse()?, stock, weight: Weight(weight.parse()?) })
}

fn command(key: u64, action: Action) -> Command {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&key.to_be_bytes());
    Command {
        pool: PoolId::default_pool(),
        key: RequestKey::new(Millis(1_000_000), entropy),
        origin: KeyOrigin::Caller,
        actor: Actor::default(),
        action,
    }
}

#[test]
fn scripts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replica/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        println!("{}", path.display());
        let mut script = Script { cluster: Cluster::new(1, 1, Settings::default()) };
        goldenscript::run(&mut script, &path).unwrap();
        script.cluster.observer.verdict();
    }
}
