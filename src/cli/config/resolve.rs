//! From what was written to what a node goes by: everything is checked here, and all that is wrong is told at once.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_saphyr::{Location, Spanned};

use super::{
    Overrides, catalog,
    diagnostic::{Diagnostic, Rejected, Source},
    file::{self, File},
    memory,
    settings::{ClusterSource, Grpc, Member, Origin, Plaintext, Row, Settings, Timing},
    units::{Address, Listen, Size, Span},
};
use crate::{
    cli::ports::{GRPC_PORT_BASE, Ports},
    pool::{CatalogItem, Limits},
    replica::SnapshotPolicy,
    runtime::SNAPSHOT_BYTES_PER_S,
    transport::tls::NodeFiles,
    types::{ClusterId, ReplicaId},
};

/// Most nodes of a cluster: more voters make every write slower and none safer.
const NODES_MAX: usize = 9;
/// Length of a tick in milliseconds.
const TICK_MS: std::ops::RangeInclusive<u64> = 5..=1_000;
/// Shortest election timeout in heartbeats: a few lost ones must not depose a leader.
const ELECTION_HEARTBEATS_MIN: u64 = 5;
/// Longest election timeout in ticks.
const ELECTION_TICKS_MAX: u64 = 10_000;
/// What the tables of request keys may take in bytes.
const KEYS_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 30;
/// How long request keys may be remembered in milliseconds.
const KEYS_AGE_MS: std::ops::RangeInclusive<u64> = 60_000..=30 * 24 * 60 * 60 * 1_000;
/// Slower than this, a transfer would hardly end.
const SNAPSHOT_BYTES_PER_S_MIN: u64 = 1 << 20;
/// The log that may make a snapshot due in bytes: less would take snapshots all the time.
const SNAPSHOT_LOG_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=16 << 30;

/// Settles a file of ours or of the predecessor's.
pub(super) fn resolve(
    source: &Source,
    file: File,
    overrides: &Overrides,
    machine: Option<u64>,
) -> Result<Settings, Rejected> {
    let mut resolver = Resolver { source, overrides, rows: Vec::new(), wrong: Vec::new() };
    let at = |text: Option<&Spanned<String>>| text.map(|text| text.referenced);
    let keys = at(file.cluster.as_ref().and_then(|cluster| cluster.value.limits.keys_bytes_max.as_ref()));
    let log = at(file.snapshots.log_bytes_max.as_ref());
    let admin = at(file.admin.listen_address.as_ref()).filter(|_| overrides.admin_listen.is_none());
    let settings = match (&file.cluster, &file.working_dir) {
        (None, Some(_)) => resolver.predecessor(file),
        _ => resolver.ours(file),
    };
    if let Some(settings) = &settings {
        resolver.check_ports(settings, admin);
        // Of a value that is out of its range that has been said, and it is enough.
        if resolver.wrong.is_empty() {
            resolver.check_memory(settings, [keys, log], machine);
        }
    }
    let Resolver { rows, wrong, .. } = resolver;
    // Without settings something is wrong: whatever gives none has said why.
    settings.filter(|_| wrong.is_empty()).map(|settings| Settings { rows, ..settings }).ok_or(Rejected(wrong))
}

/// The settling of one file: values that are settled, and what was found wrong so far.
struct Resolver<'a> {
    source: &'a Source,
    overrides: &'a Overrides,
    rows: Vec<Row>,
    wrong: Vec<Diagnostic>,
}

/// A value and where it is from.
type Given<T> = Option<(T, Origin)>;

impl Resolver<'_> {
    fn ours(&mut self, file: File) -> Option<Settings> {
        let warnings = self.warnings(&file);
        let node = self.node(file.node.as_ref());
        let cluster = self.cluster(file.cluster.as_ref(), file.node.as_ref(), node);
        let data_dir = self.data_dir(file.data_dir.as_ref());
        let tls = self.tls(file.tls.as_ref().map(|tls| &tls.value), node);
        let timing = self.timing(&file.timing);
        let snapshots = self.snapshots(&file.snapshots);
        let snapshot_bytes_per_s = self.snapshot_bytes_per_s(&file.snapshots);
        let accept_clock = self.accept_clock(&file.timing);
        let catalog = self.catalog(file.pool.as_ref());
        let (id, members, limits) = cluster?;
        let me = members.iter().find(|member| Some(member.id) == node)?;
        let quic_listen = self.quic_listen(&file.quic, me);
        let grpc = self.grpc(&file.grpc, me.id, me.grpc.as_ref(), Plaintext::No);
        let admin_listen = self.admin(&file.admin, me, file.cluster.as_ref());
        Some(Settings {
            node: me.id,
            cluster: ClusterSource::Given(id?),
            members: members.clone(),
            limits,
            data_dir: data_dir?,
            tls: tls?,
            quic_listen,
            grpc,
            admin_listen,
            timing,
            snapshots,
            snapshot_bytes_per_s,
            accept_clock,
            catalog,
            warnings,
            rows: Vec::new(),
        })
    }

    /// One node under the predecessor's working directory: loopback for the native side, plaintext at its address.
    fn predecessor(&mut self, file: File) -> Option<Settings> {
        for (key, at) in [
            ("node", file.node.as_ref().map(|node| node.referenced)),
            ("data_dir", file.data_dir.as_ref().map(|dir| dir.referenced)),
            ("tls", file.tls.as_ref().map(|tls| tls.referenced)),
        ] {
            if let Some(at) = at {
                self.wrong(
                    at,
                    format!("`{key}` needs a `cluster`; without one, `working_dir` makes this the predecessor's file"),
                );
            }
        }
        let working_dir = file.working_dir.as_ref()?;
        let (origin, working_dir) = (line_of(working_dir), self.path(working_dir));
        self.rows.push(Row { key: "working_dir".into(), value: working_dir.display().to_string(), origin });
        let ours = working_dir.join("tombola");
        let node = ReplicaId(1);
        let default_port = GRPC_PORT_BASE;
        let grpc = match file.grpc.enabled.as_ref().is_some_and(|enabled| enabled.value)
            || self.overrides.grpc_listen.is_some()
        {
            true => self.grpc(&file.grpc, node, None, Plaintext::Anywhere),
            false => None,
        };
        let grpc_port = grpc.map_or(default_port, |grpc| grpc.listen.0.port());
        let quic = Address { host: "127.0.0.1".into(), port: grpc_port.checked_add(1).unwrap_or(default_port + 1) };
        let me = Member { id: node, quic, grpc: None, admin: None };
        Some(Settings {
            node,
            cluster: ClusterSource::MadeIn(ours.clone()),
            limits: Limits::default(),
            data_dir: self.overrides.data_dir.clone().unwrap_or_else(|| ours.join("data")),
            tls: NodeFiles::in_dir(&ours.join("certs"), node),
            quic_listen: self.quic_listen(&file.quic, &me),
            admin_listen: self.admin(&file.admin, &me, None),
            members: vec![me],
            grpc,
            timing: self.timing(&file.timing),
            snapshots: self.snapshots(&file.snapshots),
            snapshot_bytes_per_s: self.snapshot_bytes_per_s(&file.snapshots),
            accept_clock: self.accept_clock(&file.timing),
            catalog: self.catalog(file.pool.as_ref()),
            warnings: vec![format!(
                "{} is the predecessor's configuration: one node keeps its data under {}; its gRPC side is plaintext; `wal` has no \
                 effect, as every draw is durable before it is answered",
                self.source.path.display(),
                ours.display()
            )],
            rows: Vec::new(),
        })
    }

    fn warnings(&self, file: &File) -> Vec<String> {
        let path = self.source.path.display();
        let line = |at: Location| format!("{path}:{}", at.line());
        let wal = file.wal.as_ref().map(|wal| {
            let place = line(wal.referenced);
            format!("{place}: `wal` has no effect: every draw is durable before it is answered")
        });
        let working_dir = file
            .working_dir
            .as_ref()
            .map(|dir| format!("{}: `working_dir` has no effect: `data_dir` replaced it", line(dir.referenced)));
        wal.into_iter().chain(working_dir).collect()
    }

    fn wrong(&mut self, at: Location, message: impl Into<String>) {
        self.wrong.push(self.source.diagnostic(at, message));
    }

    fn missing(&mut self, key: &str, help: &str) {
        self.wrong.push(self.source.about_all(format!("the key `{key}` is missing")).help(help));
    }

    /// The value that wins, noted for `config show`.
    fn settle<T: Display>(&mut self, key: &str, given: [Given<T>; 2], default: impl FnOnce() -> T) -> T {
        let (value, origin) = given.into_iter().flatten().next().unwrap_or_else(|| (default(), Origin::Default));
        self.rows.push(Row { key: key.to_owned(), value: value.to_string(), origin });
        value
    }

    /// A value of the file, read; `None` if it is not given, or wrong.
    fn read<T: FromStr<Err = String>>(&mut self, text: Option<&Spanned<String>>) -> Given<T> {
        let text = text?;
        match text.value.parse() {
            Ok(value) => Some((value, line_of(text))),
            Err(message) => {
                self.wrong(text.referenced, message);
                None
            }
        }
    }

    /// A path of the file, which is relative to the file.
    fn path(&self, text: &Spanned<String>) -> PathBuf {
        self.source.path.parent().unwrap_or(Path::new("")).join(&text.value)
    }

    fn node(&mut self, node: Option<&Spanned<u64>>) -> Option<ReplicaId> {
        let flag = self.overrides.node.map(|node| (node, self.overrides.origin_of("--node", "TOMBOLA_NODE", &node)));
        let Some((node, origin)) = flag.or(node.map(|node| (node.value, line_of(node)))) else {
            self.missing("node", "the id of this node among `cluster.nodes`, as in `node: 1`; or the flag --node");
            return None;
        };
        self.rows.push(Row { key: "node".into(), value: node.to_string(), origin });
        Some(ReplicaId(node))
    }

    fn data_dir(&mut self, dir: Option<&Spanned<String>>) -> Option<PathBuf> {
        let flag = self.overrides.data_dir.clone();
        let flag = flag.map(|dir| (self.overrides.origin_of("--data-dir", "TOMBOLA_DATA_DIR", &dir.display()), dir));
        let Some((origin, dir)) = flag.or_else(|| dir.map(|dir| (line_of(dir), self.path(dir)))) else {
            self.missing("data_dir", "where the node keeps its data, as in `data_dir: data`; or the flag --data-dir");
            return None;
        };
        self.rows.push(Row { key: "data_dir".into(), value: dir.display().to_string(), origin });
        Some(dir)
    }

    fn cluster(
        &mut self,
        cluster: Option<&Spanned<file::Cluster>>,
        node_in_file: Option<&Spanned<u64>>,
        node: Option<ReplicaId>,
    ) -> Option<(Option<ClusterId>, Vec<Member>, Limits)> {
        let Some(Spanned { value: cluster, referenced, .. }) = cluster else {
            self.missing(
                "cluster",
                "its `id` and its `nodes`, the same text on all nodes; `tombola certs init` prints one",
            );
            return None;
        };
        let id = cluster.id.value.parse::<ClusterId>();
        match &id {
            Ok(id) => {
                self.rows.push(Row { key: "cluster.id".into(), value: id.to_string(), origin: line_of(&cluster.id) })
            }
            Err(error) => self.wrong(cluster.id.referenced, error.to_string()),
        }
        let members = self.members(&cluster.nodes, *referenced);
        if let Some(node) = node
            && !members.iter().any(|member| member.id == node)
        {
            let known: Vec<_> = members.iter().map(|member| member.id.to_string()).collect();
            let message = format!("the cluster has no node {node}");
            let at = node_in_file.filter(|_| self.overrides.node.is_none()).map_or(*referenced, |node| node.referenced);
            self.wrong.push(self.source.diagnostic(at, message).help(format!("its nodes are {}", known.join(", "))));
        }
        let limits = self.limits(&cluster.limits);
        Some((id.ok(), members, limits))
    }

    fn members(&mut self, nodes: &[Spanned<file::Node>], at: Location) -> Vec<Member> {
        if !(1..=NODES_MAX).contains(&nodes.len()) {
            self.wrong(at, format!("a cluster has 1 to {NODES_MAX} nodes; 3 or 5 is usual"));
        }
        let mut lines_by_id: BTreeMap<u64, u64> = BTreeMap::new();
        let mut lines_by_address: BTreeMap<(&str, Address), u64> = BTreeMap::new();
        let mut members = Vec::new();
        for Spanned { value: node, .. } in nodes {
            let id = node.id.value;
            if id == 0 {
                self.wrong(node.id.referenced, "node ids begin at 1");
            }
            if let Some(line) = lines_by_id.insert(id, node.id.referenced.line()) {
                self.wrong(node.id.referenced, format!("node {id} is in line {line} already"));
            }
            let mut address = |resolver: &mut Self, protocol, text: Option<&Spanned<String>>| -> Option<Address> {
                let (address, _) = resolver.read::<Address>(text)?;
                let at = text?.referenced;
                if let Some(line) = lines_by_address.insert((protocol, address.clone()), at.line()) {
                    resolver.wrong(at, format!("{address} ({protocol}) is taken in line {line} already"));
                }
                Some(address)
            };
            let quic = address(self, "udp", Some(&node.quic));
            let grpc = address(self, "tcp", node.grpc.as_ref());
            let admin = address(self, "tcp", node.admin.as_ref());
            if let Some(quic) = quic {
                let key = format!("cluster.nodes[{id}].quic");
                self.rows.push(Row { key, value: quic.to_string(), origin: line_of(&node.quic) });
                members.push(Member { id: ReplicaId(id), quic, grpc, admin });
            }
        }
        members.sort_by_key(|member| member.id);
        members
    }

    fn limits(&mut self, limits: &file::Limits) -> Limits {
        let default = Limits::default();
        let bytes = self.read::<Size>(limits.keys_bytes_max.as_ref());
        let bytes = self.settle("cluster.limits.keys_bytes_max", [None, bytes], || Size(default.keys_bytes_max)).0;
        if let Some(text) = limits.keys_bytes_max.as_ref().filter(|_| !KEYS_BYTES.contains(&bytes)) {
            self.wrong(
                text.referenced,
                format!("request keys may take {} to {}", Size(*KEYS_BYTES.start()), Size(*KEYS_BYTES.end())),
            );
        }
        let age = self.read::<Span>(limits.keys_age_max.as_ref());
        let age = self.settle("cluster.limits.keys_age_max", [None, age], || Span(default.keys_age_ms_max)).0;
        if let Some(text) = limits.keys_age_max.as_ref().filter(|_| !KEYS_AGE_MS.contains(&age)) {
            self.wrong(
                text.referenced,
                format!("request keys are kept {} to {}", Span(*KEYS_AGE_MS.start()), Span(*KEYS_AGE_MS.end())),
            );
        }
        Limits { keys_bytes_max: bytes, keys_age_ms_max: age }
    }

    /// `keys` and `log` are where their bounds are given, if they are.
    fn check_memory(&mut self, settings: &Settings, [keys, log]: [Option<Location>; 2], machine: Option<u64>) {
        let Err(small) = memory::check(&settings.limits, &settings.snapshots, machine) else { return };
        let at = if small.is_for_the_log() { log.or(keys) } else { keys.or(log) };
        self.wrong_at(at, small.to_string(), small.help());
    }

    /// gRPC and the admin side are both served over TCP. `admin` is where the latter's address is given, if it is.
    fn check_ports(&mut self, settings: &Settings, admin: Option<Location>) {
        if let (Some(grpc), Some(listen)) = (&settings.grpc, settings.admin_listen)
            && listen.collides(&grpc.listen)
        {
            let message = format!("the admin side on {listen} is in the way of the gRPC side on {}", grpc.listen);
            self.wrong_at(admin, message, "give each a port of its own");
        }
    }

    fn wrong_at(&mut self, at: Option<Location>, message: String, help: impl Into<String>) {
        let diagnostic = match at {
            Some(at) => self.source.diagnostic(at, message),
            None => self.source.about_all(message),
        };
        self.wrong.push(diagnostic.help(help));
    }

    fn tls(&mut self, tls: Option<&file::Tls>, node: Option<ReplicaId>) -> Option<NodeFiles> {
        let Some(tls) = tls else {
            self.missing("tls", "the directory that `tombola certs init` wrote, as in `tls: { dir: certs }`");
            return None;
        };
        let in_dir = tls.dir.as_ref().map(|dir| NodeFiles::in_dir(&self.path(dir), node.unwrap_or_default()));
        let mut file = |key: &str, text: &Option<Spanned<String>>, in_dir: Option<&PathBuf>| {
            let own = text.as_ref().map(|text| (self.path(text), line_of(text)));
            let Some((path, origin)) = own.or_else(|| Some((in_dir?.clone(), line_of(tls.dir.as_ref()?)))) else {
                self.missing(
                    &format!("tls.{key}"),
                    "without `tls.dir`, each file is named: node_ca, client_ca, cert, key",
                );
                return None;
            };
            self.rows.push(Row { key: format!("tls.{key}"), value: path.display().to_string(), origin });
            Some(path)
        };
        let node_ca = file("node_ca", &tls.node_ca, in_dir.as_ref().map(|dir| &dir.node_ca));
        let client_ca = file("client_ca", &tls.client_ca, in_dir.as_ref().map(|dir| &dir.client_ca));
        let cert = file("cert", &tls.cert, in_dir.as_ref().map(|dir| &dir.cert));
        let key = file("key", &tls.key, in_dir.as_ref().map(|dir| &dir.key));
        Some(NodeFiles { node_ca: node_ca?, client_ca: client_ca?, cert: cert?, key: key? })
    }

    fn quic_listen(&mut self, quic: &file::Quic, me: &Member) -> Listen {
        let flag = self.overrides.quic_listen;
        let flag =
            flag.map(|listen| (listen, self.overrides.origin_of("--quic-listen", "TOMBOLA_QUIC_LISTEN", &listen)));
        let file = self.read::<Listen>(quic.listen_address.as_ref());
        self.settle("quic.listen_address", [flag, file], || me.quic.to_listen())
    }

    /// `reached` is where others reach this node's gRPC side; without it and without any other word, it is not served.
    fn grpc(
        &mut self,
        grpc: &file::Grpc,
        node: ReplicaId,
        reached: Option<&Address>,
        usual: Plaintext,
    ) -> Option<Grpc> {
        let flag = self.overrides.grpc_listen;
        let flag =
            flag.map(|listen| (listen, self.overrides.origin_of("--grpc-listen", "TOMBOLA_GRPC_LISTEN", &listen)));
        let enabled = grpc.enabled.as_ref().map(|enabled| (enabled.value, line_of(enabled)));
        let addressed = reached.is_some() || grpc.listen_address.is_some() || flag.is_some();
        if !self.settle("grpc.enabled", [None, enabled], || addressed) {
            return None;
        }
        let file = self.read::<Listen>(grpc.listen_address.as_ref());
        let listen = self.settle("grpc.listen_address", [flag, file], || match reached {
            Some(address) => address.to_listen(),
            None => Listen(
                ([127, 0, 0, 1], Ports::of(node, GRPC_PORT_BASE).map_or(GRPC_PORT_BASE, |ports| ports.grpc)).into(),
            ),
        });
        let plaintext = self.read::<Plaintext>(grpc.plaintext.as_ref());
        let plaintext = self.settle("grpc.plaintext", [None, plaintext], || usual);
        if plaintext == Plaintext::OnLoopback && !listen.0.ip().is_loopback() {
            let at = grpc.plaintext.as_ref().map_or(Location::UNKNOWN, |text| text.referenced);
            let message = format!("plaintext on {listen}: others on the network could read and change every request");
            let help =
                "leave `grpc.plaintext` out for TLS, listen on 127.0.0.1, or accept it with `plaintext: anywhere`";
            self.wrong.push(self.source.diagnostic(at, message).help(help));
        }
        let reflection = grpc.reflection.as_ref().map(|reflection| (reflection.value, line_of(reflection)));
        let reflection = self.settle("grpc.reflection", [None, reflection], || usual == Plaintext::Anywhere);
        Some(Grpc { listen, plaintext, reflection })
    }

    /// Served where the file, its cluster's address for this node or the flag says so, and on loopback alone: it has
    /// neither TLS nor tokens.
    fn admin(&mut self, admin: &file::Admin, me: &Member, cluster: Option<&Spanned<file::Cluster>>) -> Option<Listen> {
        let flag = self.overrides.admin_listen;
        let flag =
            flag.map(|listen| (listen, self.overrides.origin_of("--admin-listen", "TOMBOLA_ADMIN_LISTEN", &listen)));
        let enabled = admin.enabled.as_ref().map(|enabled| (enabled.value, line_of(enabled)));
        let addressed = me.admin.is_some() || admin.listen_address.is_some() || flag.is_some();
        if !self.settle("admin.enabled", [None, enabled], || addressed) {
            return None;
        }
        let file = self.read::<Listen>(admin.listen_address.as_ref());
        let listen = self.settle("admin.listen_address", [flag, file], || match &me.admin {
            Some(address) => address.to_listen(),
            None => Listen(
                ([127, 0, 0, 1], Ports::of(me.id, GRPC_PORT_BASE).map_or(GRPC_PORT_BASE + 2, |ports| ports.admin))
                    .into(),
            ),
        });
        if !listen.0.ip().is_loopback() {
            let own =
                cluster.and_then(|cluster| cluster.value.nodes.iter().find(|node| node.value.id.value == me.id.0));
            let text = admin.listen_address.as_ref().or_else(|| own?.value.admin.as_ref()).filter(|_| flag.is_none());
            let message = format!(
                "the admin side on {listen}: it has neither TLS nor tokens, so others on the network could read it"
            );
            let help = "let it listen on a loopback address, as 127.0.0.1:50053, and bring it elsewhere through a proxy or a tunnel";
            let at = text.map_or(Location::UNKNOWN, |text| text.referenced);
            self.wrong.push(self.source.diagnostic(at, message).help(help));
        }
        Some(listen)
    }

    fn timing(&mut self, timing: &file::Timing) -> Timing {
        let tick = self.read::<Span>(timing.tick.as_ref());
        let tick = self.settle("timing.tick", [None, tick], || Span(50));
        let heartbeat = self.read::<Span>(timing.heartbeat.as_ref());
        let heartbeat = self.settle("timing.heartbeat", [None, heartbeat], || Span(2 * tick.0));
        let election = self.read::<Span>(timing.election.as_ref());
        let election = self.settle("timing.election", [None, election], || Span(20 * tick.0));
        let wrong = if !TICK_MS.contains(&tick.0) {
            Some((&timing.tick, format!("a tick is {} to {}", Span(*TICK_MS.start()), Span(*TICK_MS.end()))))
        } else if heartbeat.0 == 0 || !heartbeat.0.is_multiple_of(tick.0) {
            Some((&timing.heartbeat, format!("the heartbeat is a multiple of the tick, which is {tick}")))
        } else if !election.0.is_multiple_of(tick.0) || election.0 / tick.0 > ELECTION_TICKS_MAX {
            Some((
                &timing.election,
                format!(
                    "the election timeout is a multiple of the tick, which is {tick}, and at most {ELECTION_TICKS_MAX} of them"
                ),
            ))
        } else if election.0 / heartbeat.0 < ELECTION_HEARTBEATS_MIN {
            Some((
                &timing.election,
                format!(
                    "the election timeout is at least {ELECTION_HEARTBEATS_MIN} heartbeats, which are {heartbeat} each"
                ),
            ))
        } else {
            None
        };
        if let Some((text, message)) = wrong {
            // A default can only be wrong beside a value that is given.
            let at = [text, &timing.heartbeat, &timing.election, &timing.tick].into_iter().flatten().next();
            self.wrong(at.map_or(Location::UNKNOWN, |text| text.referenced), message);
            return Timing { tick: Span(50).duration(), heartbeat_ticks: 2, election_ticks: 20 };
        }
        let ticks = |span: Span| usize::try_from(span.0 / tick.0).unwrap_or(usize::MAX);
        Timing { tick: tick.duration(), heartbeat_ticks: ticks(heartbeat), election_ticks: ticks(election) }
    }

    fn snapshots(&mut self, snapshots: &file::Snapshots) -> SnapshotPolicy {
        let default = SnapshotPolicy::default();
        let mut size = |key: &str, text: &Option<Spanned<String>>, default| {
            let given = self.read::<Size>(text.as_ref());
            self.settle(&format!("snapshots.{key}"), [None, given], || Size(default)).0
        };
        let log_bytes_min = size("log_bytes_min", &snapshots.log_bytes_min, default.log_bytes_min);
        let log_bytes_max = size("log_bytes_max", &snapshots.log_bytes_max, default.log_bytes_max);
        let trailing_bytes = size("trailing_bytes", &snapshots.trailing_bytes, default.trailing_bytes);
        let entries = snapshots.trailing_entries.as_ref().map(|entries| (entries.value, line_of(entries)));
        let trailing_entries = self.settle("snapshots.trailing_entries", [None, entries], || default.trailing_entries);
        let wrong = if !SNAPSHOT_LOG_BYTES.contains(&log_bytes_min) {
            let (least, most) = (Size(*SNAPSHOT_LOG_BYTES.start()), Size(*SNAPSHOT_LOG_BYTES.end()));
            Some((&snapshots.log_bytes_min, format!("a snapshot is due after {least} to {most} of log")))
        } else if log_bytes_max < log_bytes_min.saturating_add(trailing_bytes) {
            let least = Size(log_bytes_min.saturating_add(trailing_bytes));
            Some((
                &snapshots.log_bytes_max,
                format!(
                    "the log may be cut above {least} at least, what makes a snapshot due and what stays beside it"
                ),
            ))
        } else {
            None
        };
        if let Some((text, message)) = wrong {
            // A default can only be wrong beside a value that is given.
            let given = [text, &snapshots.log_bytes_min, &snapshots.trailing_bytes, &snapshots.log_bytes_max];
            let at = given.into_iter().flatten().next();
            self.wrong(at.map_or(Location::UNKNOWN, |text| text.referenced), message);
        }
        SnapshotPolicy { log_bytes_min, trailing_entries, trailing_bytes, log_bytes_max }
    }

    fn snapshot_bytes_per_s(&mut self, snapshots: &file::Snapshots) -> u64 {
        let given = self.read::<Size>(snapshots.transfer_bytes_per_s.as_ref());
        let rate = self.settle("snapshots.transfer_bytes_per_s", [None, given], || Size(SNAPSHOT_BYTES_PER_S)).0;
        if let Some(text) = snapshots.transfer_bytes_per_s.as_ref().filter(|_| rate < SNAPSHOT_BYTES_PER_S_MIN) {
            self.wrong(
                text.referenced,
                format!("a snapshot is sent at {} a second at least", Size(SNAPSHOT_BYTES_PER_S_MIN)),
            );
        }
        rate
    }

    fn accept_clock(&mut self, timing: &file::Timing) -> bool {
        let (flag, variable) = ("--accept-clock", "TOMBOLA_ACCEPT_CLOCK");
        let given = self.overrides.accept_clock;
        // clap takes any word that is not "no" for a yes: the variable is where it is from, if there is one.
        let origin =
            if std::env::var_os(variable).is_some() { Origin::Environment(variable) } else { Origin::Flag(flag) };
        let file = timing.accept_clock.as_ref().map(|accept| (accept.value, line_of(accept)));
        self.settle("timing.accept_clock", [given.then_some((true, origin)), file], || false)
    }

    fn catalog(&mut self, pool: Option<&file::Pool>) -> Vec<CatalogItem> {
        let Some(items) = pool.and_then(|pool| pool.catalog.as_ref()) else { return Vec::new() };
        let catalog = catalog::check(items, self.source, &mut self.wrong);
        let value = format!("{} items", items.value.len());
        self.rows.push(Row { key: "pool.catalog".into(), value, origin: line_of(items) });
        catalog
    }
}

/// The line that a value stands in.
fn line_of<T>(value: &Spanned<T>) -> Origin {
    Origin::File { line: value.referenced.line() }
}
