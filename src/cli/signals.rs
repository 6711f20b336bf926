//! The signals that ask a process to stop: SIGTERM, Ctrl-C, and the end of its terminal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its making on: a signal that came before it was waited for is not lost, and ends nothing by itself.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Absent under `nohup`, which means: go on.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Begins to listen.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one, and names it. May be cancelled and called again.
    pub async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Does whoever started us want us to outlive the terminal? Linux tells the mask of ignored signals; elsewhere we guess
/// that it does not.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is signal 1: the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
