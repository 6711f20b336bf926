//! The nodes' processes: started, watched, stopped.
//!
//! Each is owned by a task of its own, which alone signals and reaps it, so that no signal ever reaches a process that
//! has taken over the number of a dead one. They are in process groups of their own: Ctrl-C in a terminal reaches `dev`
//! alone, which then stops them in order.
//!
//! They are not bound to `dev`: if it is killed, they live on, as a supervisor's death is no reason to stop serving.

use std::{
    fs::File,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::types::ReplicaId;

/// How long a node may take to stop cleanly before it is killed.
const STOP_MAX: Duration = Duration::from_secs(10);
/// What the caller's environment may not change about a node: its file says it.
const VARIABLES_REMOVED: [&str; 5] =
    ["TOMBOLA_CONFIG", "TOMBOLA_NODE", "TOMBOLA_DATA_DIR", "TOMBOLA_QUIC_LISTEN", "TOMBOLA_GRPC_LISTEN"];

/// A node's process ended by itself.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Which node.
    pub node: ReplicaId,
    /// Its process.
    pub pid: u32,
    /// How.
    pub status: ExitStatus,
}

/// The processes that this `dev` started.
#[derive(Debug)]
pub struct Processes {
    tasks: JoinSet<()>,
    ended: mpsc::UnboundedReceiver<Ended>,
    tell_ended: mpsc::UnboundedSender<Ended>,
    stop: watch::Sender<bool>,
}

impl Processes {
    /// None yet.
    pub fn new() -> Self {
        // At most one message a process.
        let (tell_ended, ended) = mpsc::unbounded_channel();
        Self { tasks: JoinSet::new(), ended, tell_ended, stop: watch::Sender::new(false) }
    }

    /// Starts `serve --config CONFIG` of the program at `exe`, with `flags` besides; what it writes is added to `log`. Gives
    /// its number.
    ///
    /// # Errors
    /// The log cannot be opened, or the program cannot be run.
    pub fn start(
        &mut self,
        node: ReplicaId,
        exe: &Path,
        config: &Path,
        flags: &[String],
        log: &Path,
    ) -> io::Result<u32> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(exe);
        command.arg("serve").arg("--config").arg(config).args(flags);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        for variable in VARIABLES_REMOVED {
            command.env_remove(variable);
        }
        let child = command.spawn()?;
        let pid = child.id().expect("a process that was not waited for has a number");
        self.tasks.spawn(own(node, pid, child, self.tell_ended.clone(), self.stop.subscribe()));
        Ok(pid)
    }

    /// Waits for a process to end by itself; may be cancelled and called again.
    pub async fn ended(&mut self) -> Ended {
        self.ended.recv().await.expect("a sender is kept")
    }

    /// Asks every process that still runs to stop, waits, and kills what does not.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Owns a process until it has ended.
async fn own(
    node: ReplicaId,
    pid: u32,
    mut child: Child,
    ended: mpsc::UnboundedSender<Ended>,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        biased;
        status = child.wait() => {
            if let Ok(status) = status {
                // Nobody listens once `dev` stops.
                let _ = ended.send(Ended { node, pid, status });
            }
            return;
        }
        _ = stop.wait_for(|stop| *stop) => {}
    }
    // The child has not been waited for, so its number is still its own.
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
        tracing::warn!("node {node} (pid {pid}) did not stop in {} s and is killed", STOP_MAX.as_secs());
        let _ = child.kill().await;
    }
}

/// Is there a process of this number?
pub fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// How a process ended, for people.
pub fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(9)) => "was killed (signal 9)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
