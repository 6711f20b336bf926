//! Does a node fit into this machine's memory? Better asked before it starts than answered by the kernel under load.
//!
//! What a node may take is bounded part by part; the sum is compared with what the machine has, or with the limit that a
//! control group sets, whichever is less. Where neither can be read, nothing is said.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::units::Size;
use crate::pool::Limits;

const MIB: u64 = 1 << 20;
/// Pools and items; administrative keys are among them.
const STATE_BYTES: u64 = 64 * MIB;
/// The log that is mirrored in memory.
const RAFT_BYTES: u64 = 64 * MIB;
/// Queues from and to peers.
const PEERS_BYTES: u64 = 48 * MIB;
/// Requests that wait, and buffers of connections.
const CLIENTS_BYTES: u64 = 64 * MIB;
/// All but the keys.
const OTHERS_BYTES: u64 = STATE_BYTES + RAFT_BYTES + PEERS_BYTES + CLIENTS_BYTES;
/// How often its budget the table of request keys may take: hash tables grow by doubling, and one that is restored from a
/// snapshot may just have.
const KEYS_FACTOR: u64 = 2;

/// The machine has less memory than a node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    keys_bytes_max: u64,
    machine: u64,
}

/// Compares what a node with these limits may take with what there is; nothing is wrong if that is not known.
pub fn check(limits: &Limits, machine: Option<u64>) -> Result<(), TooSmall> {
    let keys_bytes_max = limits.keys_bytes_max;
    match machine {
        Some(machine) if needed(keys_bytes_max) > machine => Err(TooSmall { keys_bytes_max, machine }),
        _ => Ok(()),
    }
}

fn needed(keys_bytes_max: u64) -> u64 {
    keys_bytes_max.saturating_mul(KEYS_FACTOR).saturating_add(OTHERS_BYTES)
}

impl TooSmall {
    /// What to do about it.
    pub fn help(&self) -> String {
        let fits = self.machine.saturating_sub(OTHERS_BYTES) / KEYS_FACTOR;
        let more = format!("give the machine, or the control group, {} or more", in_mib(needed(self.keys_bytes_max)));
        match in_mib(fits) {
            Size(0) => more,
            fits => format!(
                "{more}; or, before the cluster is founded, set `cluster.limits.keys_bytes_max: {fits}` on all nodes"
            ),
        }
    }
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys_bytes_max, machine } = *self;
        write!(
            f,
            "a node may take {}: {} for request keys (`cluster.limits.keys_bytes_max` is {}, and their table may be twice as \
             large), {} for pools and items, {} for the log, {} for peers and {} for clients; this machine has {}",
            in_mib(needed(keys_bytes_max)),
            in_mib(keys_bytes_max.saturating_mul(KEYS_FACTOR)),
            Size(keys_bytes_max),
            Size(STATE_BYTES),
            Size(RAFT_BYTES),
            Size(PEERS_BYTES),
            Size(CLIENTS_BYTES),
            in_mib(machine)
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

    #[test]
    fn the_keys_count_twice_and_everything_else_once() {
        let needed = 752 * MIB;
        assert_eq!(check(&Limits::default(), Some(needed)), Ok(()));
        assert_eq!(check(&Limits::default(), None), Ok(()));
        let small = check(&Limits::default(), Some(needed - 1)).unwrap_err();
        let says = small.to_string();
        for part in ["may take 752MiB", "512MiB for request keys", "keys_bytes_max` is 256MiB", "machine has 751MiB"] {
            assert!(says.contains(part), "{says}");
        }
    }

    #[test]
    fn the_help_names_a_setting_that_fits_or_no_setting_at_all() {
        let small = check(&with_keys(1_024), Some(1_000 * MIB)).unwrap_err();
        assert!(small.help().contains("keys_bytes_max: 380MiB`"), "{}", small.help());
        assert_eq!(check(&with_keys(380), Some(1_000 * MIB)), Ok(()));
        let tiny = check(&with_keys(1), Some(100 * MIB)).unwrap_err();
        assert!(!tiny.help().contains("keys_bytes_max") && tiny.help().contains("242MiB"), "{}", tiny.help());
        assert!(check(&with_keys(u64::MAX / MIB), Some(u64::MAX - 1)).is_err(), "nothing overflows");
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
