//! Does a node fit into this machine's memory? Better asked before it starts than answered by the kernel under load.
//!
//! What a node may take is bounded part by part; the sum is compared with what the machine has, or with the limit that a
//! control group sets, whichever is less. Where neither can be read, nothing is said.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::units::Size;
use crate::{pool::Limits, replica::SnapshotPolicy};

const MIB: u64 = 1 << 20;
/// Pools and items; administrative keys are among them.
const STATE_BYTES: u64 = 64 * MIB;
/// Queues from and to peers.
const PEERS_BYTES: u64 = 48 * MIB;
/// Requests that wait, and buffers of connections: 64 KiB of each that has been sent several long datagrams at a time.
const CLIENTS_BYTES: u64 = 112 * MIB;
/// All but the keys and the log.
const OTHERS_BYTES: u64 = STATE_BYTES + PEERS_BYTES + CLIENTS_BYTES;
/// How often its budget the table of request keys may take: hash tables grow by doubling, and one that is restored from a
/// snapshot may just have.
const KEYS_FACTOR: u64 = 2;

/// The machine has less memory than a node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    keys_bytes_max: u64,
    snapshots: SnapshotPolicy,
    machine: u64,
}

/// Compares what a node with these limits may take with what there is; nothing is wrong if that is not known.
pub fn check(limits: &Limits, snapshots: &SnapshotPolicy, machine: Option<u64>) -> Result<(), TooSmall> {
    let Some(machine) = machine else { return Ok(()) };
    let small = TooSmall { keys_bytes_max: limits.keys_bytes_max, snapshots: *snapshots, machine };
    if small.needed() > machine { Err(small) } else { Ok(()) }
}

impl TooSmall {
    fn keys(&self) -> u64 {
        self.keys_bytes_max.saturating_mul(KEYS_FACTOR)
    }

    /// The whole log is mirrored in memory, and may grow so long before it is cut at any price.
    fn log(&self) -> u64 {
        self.snapshots.log_bytes_max
    }

    fn needed(&self) -> u64 {
        self.keys().saturating_add(self.log()).saturating_add(OTHERS_BYTES)
    }

    /// Does the log take more than the keys?
    pub fn is_for_the_log(&self) -> bool {
        self.log() > self.keys()
    }

    /// What to do about it: settings that fit, if there are any.
    pub fn help(&self) -> String {
        let mut help = format!("give the machine, or the control group, {} or more", in_mib(self.needed()));
        let left = self.machine.saturating_sub(OTHERS_BYTES);
        let log = in_mib(left.saturating_sub(self.keys()));
        if log.0 >= self.snapshots.log_bytes_min.saturating_add(self.snapshots.trailing_bytes).max(MIB) {
            help += &format!("; or set `snapshots.log_bytes_max: {log}`");
        }
        let keys = in_mib(left.saturating_sub(self.log()) / KEYS_FACTOR);
        if keys.0 > 0 {
            help += &format!(
                "; or, before the cluster is founded, set `cluster.limits.keys_bytes_max: {keys}` on all nodes"
            );
        }
        help
    }
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a node may take {}: {} for request keys (`cluster.limits.keys_bytes_max` is {}, and their table may be twice as \
             large), {} for the log (`snapshots.log_bytes_max`), {} for pools and items, {} for peers and {} for clients; this \
             machine has {}",
            in_mib(self.needed()),
            in_mib(self.keys()),
            Size(self.keys_bytes_max),
            Size(self.log()),
            Size(STATE_BYTES),
            Size(PEERS_BYTES),
            Size(CLIENTS_BYTES),
            in_mib(self.machine)
        )
    }
}

/// In whole MiB, for reading.
fn in_mib(bytes: u64) -> Size {
    Size(bytes / MIB * MIB)
}

/// What this process may use, in bytes; `None` if it cannot be found out.
pub fn of_machine() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let total = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
    let files = limit_files(&read(Path::new("/proc/self/cgroup")).unwrap_or_default());
    // Unlimited is `max`, or a number beyond any machine's.
    let limits = files.iter().filter_map(|file| read(file)?.trim().parse().ok());
    total.into_iter().chain(limits).min()
}

/// The memory that `/proc/meminfo` tells of, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The files that hold the limits on a process with this `/proc/self/cgroup`: its group's and those of all groups above, of
/// version 2 (`0::/a/b`) or 1 (`4:memory:/a/b`). Not all of them exist.
fn limit_files(cgroup: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| -> Option<Vec<PathBuf>> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let groups = Path::new(group.trim_start_matches('/')).ancestors();
        Some(groups.map(|group| Path::new(root).join(group).join(file)).collect())
    };
    cgroup.lines().filter_map(of_line).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_keys(mib: u64) -> Limits {
        Limits { keys_bytes_max: mib * MIB, ..Limits::default() }
    }

    fn with_log(mib: u64) -> SnapshotPolicy {
        SnapshotPolicy { log_bytes_max: mib * MIB, ..SnapshotPolicy::default() }
    }

    #[test]
    fn the_keys_count_twice_and_everything_else_once() {
        let needed = 992 * MIB;
        let usual = |machine| check(&Limits::default(), &SnapshotPolicy::default(), machine);
        assert_eq!((usual(Some(needed)), usual(None)), (Ok(()), Ok(())));
        let says = usual(Some(needed - 1)).unwrap_err().to_string();
        for part in [
            "may take 992MiB",
            "512MiB for request keys",
            "keys_bytes_max` is 256MiB",
            "256MiB for the log",
            "machine has 991MiB",
        ] {
            assert!(says.contains(part), "{says}");
        }
    }

    #[test]
    fn the_log_counts_as_long_as_it_may_grow() {
        let machine = Some(24 << 30);
        assert_eq!(check(&Limits::default(), &with_log(20 << 10), machine), Ok(()));
        let small = check(&Limits::default(), &with_log(100 << 20), machine).unwrap_err();
        assert!(small.is_for_the_log() && small.to_string().contains("100TiB for the log"), "{small}");
        assert!(small.help().contains("log_bytes_max: 23840MiB`"), "{}", small.help());
        assert_eq!(check(&Limits::default(), &with_log(23_840), machine), Ok(()));
    }

    #[test]
    fn the_help_names_settings_that_fit_or_no_setting_at_all() {
        let usual = SnapshotPolicy::default();
        let small = check(&with_keys(1_024), &usual, Some(1_000 * MIB)).unwrap_err();
        assert!(small.help().contains("keys_bytes_max: 260MiB`"), "{}", small.help());
        assert!(!small.help().contains("log_bytes_max") && !small.is_for_the_log(), "{}", small.help());
        assert_eq!(check(&with_keys(260), &usual, Some(1_000 * MIB)), Ok(()));
        let tiny = check(&with_keys(1), &usual, Some(100 * MIB)).unwrap_err();
        assert!(!tiny.help().contains("bytes_max") && tiny.help().contains("482MiB"), "{}", tiny.help());
        let most = u64::MAX / MIB;
        assert!(check(&with_keys(most), &with_log(most), Some(u64::MAX - 1)).is_err(), "nothing overflows");
    }

    #[test]
    fn the_kernel_s_words_are_understood() {
        assert_eq!(total("MemTotal:       24560000 kB\nMemFree: 1 kB\n"), Some(24_560_000 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: many kB\n"), None);
        let v2: Vec<_> = limit_files("0::/system.slice/tombola.service\n");
        assert_eq!(v2[0], Path::new("/sys/fs/cgroup/system.slice/tombola.service/memory.max"));
        assert_eq!(v2[2], Path::new("/sys/fs/cgroup/memory.max"));
        let v1 = limit_files("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/y\n");
        assert_eq!(v1[0], Path::new("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"));
        assert_eq!((v1.len(), limit_files("").len()), (3, 0));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(of_machine().is_none_or(|bytes| bytes > 16 * MIB));
    }
}
