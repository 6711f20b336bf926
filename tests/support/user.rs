//! A user of the binary: a home of their own, processes that do not outlive the test, ports that are free.
#![allow(dead_code, reason = "each test binary that includes this uses a part of it")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tombola::cli::ports;

/// Everything here is over sooner on any machine that is not lost.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A user of their own: a home, a place for temporary files, and processes that do not outlive the test.
pub struct User {
    pub home: TempDir,
}

impl User {
    pub fn new() -> Self {
        let home = TempDir::new().unwrap();
        for dir in ["run", "tmp"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        Self { home }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombola"));
        command.args(args).current_dir(self.home.path());
        self.at_home(&mut command);
        command
    }

    pub fn at_home(&self, command: &mut Command) {
        for (variable, dir) in
            [("HOME", ""), ("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state"), ("TMPDIR", "tmp")]
        {
            command.env(variable, self.path(dir));
        }
        command.env_remove("RUST_LOG").stdin(Stdio::null());
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; gives its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-o", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// What is left in the place for temporary files, and of pointers to clusters.
    pub fn left(&self) -> Vec<PathBuf> {
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        list(self.path("tmp"))
            .chain(list(self.path("run/tombola/dev")))
            .chain(list(self.path("state/tombola/dev")))
            .collect()
    }
}

/// A process that runs. Killed when dropped, so that a failing test leaves nothing.
pub struct Running {
    pub child: Child,
    pub stdout: Receiver<String>,
    pub stderr: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// A process whose output nobody reads here: its stderr is as the command has it.
    pub fn quiet(mut command: Command) -> Self {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        Self { child, stdout: mpsc::channel().1, stderr: mpsc::channel().1 }
    }

    /// Lines of stdout up to and including the one that begins with `start`.
    pub fn stdout_until(&self, start: &str) -> Vec<String> {
        until(&self.stdout, start).unwrap_or_else(|seen| {
            let told: Vec<_> = self.stderr.try_iter().collect();
            panic!("no line {start:?} on stdout after {seen:?}; stderr: {told:?}")
        })
    }

    /// Lines of stderr up to and including the one that contains `part`.
    pub fn stderr_until(&self, part: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.stderr.recv_timeout(end.saturating_duration_since(Instant::now())) {
            seen.push(line);
            if seen.last().unwrap().contains(part) {
                return seen;
            }
        }
        panic!("no {part:?} on stderr after {seen:?}")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: a `dev` must be given the time to stop its nodes.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            let end = Instant::now() + PATIENCE;
            while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

pub fn until(lines: &Receiver<String>, start: &str) -> Result<Vec<String>, Vec<String>> {
    let mut seen = Vec::new();
    let end = Instant::now() + PATIENCE;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        seen.push(line);
        if seen.last().unwrap().starts_with(start) {
            return Ok(seen);
        }
    }
    Err(seen)
}

pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A base whose ports are free, and that no other test of this process is given.
pub fn free_base(nodes: u64) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let base = first + NEXT.fetch_add(1, Ordering::Relaxed) * 50;
        if ports::check_free(nodes, base, "").is_ok() {
            return base;
        }
    }
}

pub fn exists(pid: u64) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

pub fn dev_json(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("dev.json")).unwrap()).unwrap()
}

pub fn pids(dev_json: &Value) -> Vec<u64> {
    dev_json["nodes"].as_array().unwrap().iter().map(|node| node["pid"].as_u64().unwrap()).collect()
}
