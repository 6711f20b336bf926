//! A line that counts while the load runs, on a terminal only.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::task::JoinHandle;

use super::load::Shared;
use crate::cli::Format;

const EVERY: Duration = Duration::from_secs(1);

/// Counts until it is dropped, which clears the line.
pub(super) struct Progress(Option<JoinHandle<()>>);

impl Progress {
    /// Begins to count `what`.
    pub(super) fn start(shared: Shared, what: &'static str, format: Format) -> Self {
        let wanted = format == Format::Table && io::stderr().is_terminal();
        Self(wanted.then(|| tokio::spawn(count(shared, what))))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

async fn count(shared: Shared, what: &'static str) {
    let mut before = 0;
    let mut seconds = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        seconds += EVERY.as_secs();
        let (calls, draws) = shared.answered();
        let now = if what == "draws" { draws } else { calls };
        let per_s = (now - before) as f64 / EVERY.as_secs_f64();
        let _ = write!(io::stderr(), "\r\x1b[K{seconds:>3} s  {per_s:>10.0} {what}/s");
        before = now;
    }
}
