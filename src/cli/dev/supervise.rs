//! A development cluster's life: brought up, watched, brought down.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    place::{Place, Plan},
    processes::{self, Ended, Processes},
    ready,
};
use crate::{
    cli::{
        CliError, Exit, Format, Globals,
        args::LogFormat,
        discovery::{self, DevFile},
        output::{self, Value},
        signals::StopSignals,
    },
    replica::Role,
    types::ReplicaId,
};

/// How long the nodes may take until every one answers.
const START_MAX: Duration = Duration::from_secs(60);
/// How often is looked for nodes that were brought back by hand.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of a node's log that are shown when it does not come up.
const LOG_LINES_SHOWN: usize = 6;
/// Begins the last line that a detached `dev` prints.
pub(super) const STOP_LINE: &str = "stop it with: ";

/// Whose a node's process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Ours, and it runs.
    Ours,
    /// It has ended.
    Down,
    /// Somebody brought the node back; the process is theirs.
    ByHand,
}

/// A cluster and everything that is known about its processes.
pub struct Supervisor<'a> {
    place: &'a Place,
    plan: &'a Plan,
    detached: bool,
    format: Format,
    /// Flags of every node.
    flags: Vec<String>,
    pointers: Vec<PathBuf>,
    processes: Processes,
    nodes: BTreeMap<ReplicaId, (u32, Life)>,
}

impl<'a> Supervisor<'a> {
    /// Nothing is started yet.
    pub fn new(place: &'a Place, plan: &'a Plan, detached: bool, globals: &Globals) -> Self {
        // Their logs are files, but files for people.
        let format = match globals.log_format {
            Some(LogFormat::Json) => "json",
            Some(LogFormat::Text) | None => "text",
        };
        let level = globals.log_level.iter().map(|level| format!("--log-level={level}"));
        Self {
            place,
            plan,
            detached,
            format: globals.output,
            flags: std::iter::once(format!("--log-format={format}")).chain(level).collect(),
            pointers: discovery::pointer_dirs(),
            processes: Processes::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Brings the cluster up, watches it until a signal comes, and brings it down. Gives the nodes that somebody brought
    /// back by hand and that still run, and how it went.
    pub async fn run(mut self, signals: &mut StopSignals) -> (Result<(), CliError>, Vec<(ReplicaId, u32)>) {
        let up = tokio::select! {
            biased;
            _ = signals.next() => Ok(false),
            up = self.bring_up() => up.map(|()| true),
        };
        if matches!(up, Ok(true)) {
            self.watch(signals).await;
        }
        if let Err(error) = discovery::withdraw(&self.pointers, &self.place.dir) {
            output::stderr(&format!("warning: dev.json or its pointer cannot be removed: {error}"));
        }
        self.processes.stop().await;
        let by_hand = self.nodes.iter().filter(|(_, (pid, life))| *life == Life::ByHand && processes::exists(*pid));
        (up.map(|_| ()), by_hand.map(|(&node, &(pid, _))| (node, pid)).collect())
    }

    /// Starts every node, waits until each answers, and tells the world.
    async fn bring_up(&mut self) -> Result<(), CliError> {
        let exe = exe()?;
        // A `dev` that was killed may have left its own.
        discovery::withdraw(&self.pointers, &self.place.dir)
            .map_err(|error| self.failed("remove dev.json of", &error))?;
        for node in (1..=self.plan.nodes).map(ReplicaId) {
            let (config, log) = (self.place.config(node), self.place.log(node));
            let pid = self.processes.start(node, &exe, &config, &self.flags, &log);
            let pid = pid.map_err(|error| self.failed("start a node in", &error))?;
            self.nodes.insert(node, (pid, Life::Ours));
        }
        let file = self.describe();
        let roles = tokio::select! {
            biased;
            ended = self.processes.ended() => return Err(self.died_early(ended)),
            roles = ready::wait(&file, !self.plan.catalog.is_empty()) => roles?,
            () = sleep(START_MAX) => return Err(self.not_ready()),
        };
        self.publish(&file);
        self.announce(&exe, &file, &roles);
        Ok(())
    }

    /// Tells what becomes of the nodes, until a signal comes.
    async fn watch(&mut self, signals: &mut StopSignals) {
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = signals.next() => return,
                ended = self.processes.ended() => {
                    self.nodes.insert(ended.node, (ended.pid, Life::Down));
                    self.report(ended.node, &format!("(pid {}) {}", ended.pid, processes::in_words(ended.status)));
                }
                _ = look.tick() => self.look(),
            }
        }
    }

    /// Looks at the nodes that are not ours: has one come back, or gone again?
    fn look(&mut self) {
        let mut changed = Vec::new();
        for (&node, &(pid, life)) in &self.nodes {
            match life {
                Life::Ours => {}
                Life::ByHand if processes::exists(pid) => {}
                Life::ByHand => changed.push((node, pid, Life::Down)),
                Life::Down => {
                    // The dead process's number stands in the lock file until another one takes the lock.
                    let holder = self.place.holder(node).filter(|&holder| holder != pid && processes::exists(holder));
                    changed.extend(holder.map(|holder| (node, holder, Life::ByHand)));
                }
            }
        }
        for (node, pid, life) in changed {
            self.nodes.insert(node, (pid, life));
            if life == Life::Down {
                self.report(node, &format!("(pid {pid}), which was started by hand, has ended"));
            } else {
                self.publish(&self.describe());
                output::stderr(&format!(
                    "node {node} is back as pid {pid}; it was started by hand, and is not stopped from here"
                ));
            }
        }
    }

    /// A node has ended; nobody brings it back but the user.
    fn report(&self, node: ReplicaId, what: &str) {
        let log = self.place.log(node);
        let command =
            exe().map(|exe| shell(&[&exe, Path::new("serve"), Path::new("--config"), &self.place.config(node)]));
        let command = command.unwrap_or_else(|error| error.message);
        output::stderr(&format!("node {node} {what}; its log is {}\nbring it back with: {command}", log.display()));
    }

    fn describe(&self) -> DevFile {
        self.place.describe(self.plan.grpc_port, self.nodes.iter().map(|(&node, &(pid, _))| (node, pid)))
    }

    fn publish(&self, file: &DevFile) {
        if let Err(error) = discovery::publish(&self.pointers, &self.place.dir, file) {
            output::stderr(&format!("warning: the other commands will not find this cluster by themselves: {error}"));
        }
    }

    /// Says where everything is, that it is ready, and what to type next.
    fn announce(&self, exe: &Path, file: &DevFile, roles: &BTreeMap<ReplicaId, Role>) {
        let (dir, temporary) = (&self.place.dir, self.place.temporary);
        if self.format == Format::Json {
            let mut json = serde_json::to_value(file).expect("a struct with string keys serializes");
            json["data_dir"] = serde_json::json!(dir);
            json["temporary"] = temporary.into();
            json["pid"] = std::process::id().into();
            return output::stdout(&format!("{json}\n"));
        }
        let rows = file.nodes.iter().map(|node| {
            let role = roles.get(&ReplicaId(node.id)).map_or("", |&role| ready::in_words(role));
            let [grpc, quic, admin] = [&node.grpc, &node.quic, &node.admin].map(|address| address.as_str().into());
            vec![Value::from(node.id), grpc, quic, admin, role.into()]
        });
        let table = output::table(&["id", "grpc", "quic", "admin", "role"], rows);
        let fate = if temporary { "deleted at the end" } else { "kept" };
        let draw = shell(&[exe, Path::new("draw"), Path::new("-n"), Path::new("5")]);
        output::stdout(&format!(
            "{table}data directory {} ({fate})\nready\nnext, in another terminal: {draw}\n",
            dir.display()
        ));
        if self.detached {
            output::stdout(&format!("{STOP_LINE}kill {}\n", std::process::id()));
        }
    }

    fn died_early(&self, ended: Ended) -> CliError {
        let what = processes::in_words(ended.status);
        let message = format!(
            "node {} {what} before the cluster was ready; the end of its log:\n{}",
            ended.node,
            self.log_end(ended.node)
        );
        CliError::new(Exit::Other, "NODE_ENDED", message)
    }

    fn not_ready(&self) -> CliError {
        let ends = self.nodes.keys().map(|&node| format!("node {node}:\n{}", self.log_end(node)));
        let message = format!("not every node answered within {} s; the ends of their logs:\n", START_MAX.as_secs());
        CliError::new(Exit::Unavailable, "NOT_READY", message + &ends.collect::<Vec<_>>().join("\n"))
    }

    fn log_end(&self, node: ReplicaId) -> String {
        let log = fs::read(self.place.log(node)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn failed(&self, verb: &str, error: &std::io::Error) -> CliError {
        CliError::new(Exit::Other, "FILE", format!("cannot {verb} {}: {error}", self.place.dir.display()))
    }
}

/// The path of this program, as it can be typed from anywhere.
pub(super) fn exe() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::new(Exit::Other, "FILE", format!("the path of this program is not known: {error}")))
}

/// A command as it can be pasted into a shell.
fn shell(words: &[&Path]) -> String {
    let quoted = words.iter().map(|word| {
        let word = word.display().to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let words = ["/a/tombola", "serve", "--config", "/a b/it's/config.yaml"].map(Path::new);
        assert_eq!(shell(&words), r"/a/tombola serve --config '/a b/it'\''s/config.yaml'");
    }
}
