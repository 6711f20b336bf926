//! Processes that run for us: each a child on a few runs, at most so many at a time. Whatever happens to one, its run gets
//! an outcome: a process that dies, or that says nothing for too long, is the failure of the run it was at.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use tombola_sim::verdict::{Failure, FailureKind};

use super::{Stop, report::Outcome};

/// No run takes that long: it would be thousands of simulated seconds.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// Of what a dying process said, that much is kept.
const LAST_WORDS_MAX: usize = 2_000;

/// One run.
#[derive(Clone, Debug)]
pub(super) enum Task {
    Seed(u64),
    Plan(PathBuf),
}

/// Runs that share a process, with the bug that is planted in all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    pub(super) tasks: Vec<Task>,
    pub(super) bug: Option<String>,
}

/// Runs jobs in so many processes at a time: `next` is asked for more until it has none, and `done` told of each run's
/// outcome, in the order of the job. Says `done` no, the rest of the job is left.
pub(super) fn run(
    processes: usize,
    next: impl FnMut() -> Option<Job> + Send,
    done: impl FnMut(&Job, usize, Outcome) -> bool + Send,
) {
    let (next, done) = (Mutex::new(next), Mutex::new(done));
    let worker = || loop {
        let job = (*next.lock().expect("no panic holds it"))();
        let Some(job) = job else { return };
        one(&job, |number, outcome| (*done.lock().expect("no panic holds it"))(&job, number, outcome));
    };
    thread::scope(|scope| (0..processes.max(1)).for_each(|_| drop(scope.spawn(worker))));
}

/// One job: in one process, or in more if that one ends early.
pub(super) fn one(job: &Job, mut done: impl FnMut(usize, Outcome) -> bool) {
    let mut at = 0;
    while at < job.tasks.len() {
        let begun = at;
        let end = batch(&job.tasks[at..], job.bug.as_deref(), |outcome| {
            at += 1;
            done(at - 1, outcome)
        });
        match end {
            End::Enough => return,
            End::Over => {}
            End::Died(why) => {
                at += 1;
                if !done(at - 1, lost(&job.tasks[at - 1], why)) {
                    return;
                }
            }
        }
        assert!(at > begun, "a process ends well that has told nothing");
    }
}

/// How a process came to its end.
enum End {
    /// It was told so.
    Enough,
    /// All is done; or it stopped after a panic that it has told of.
    Over,
    /// Not well.
    Died(Failure),
}

fn batch(tasks: &[Task], bug: Option<&str>, mut done: impl FnMut(Outcome) -> bool) -> End {
    let harness = |detail: String| End::Died(failure(FailureKind::Harness, detail));
    let mut child = match start(tasks, bug) {
        Ok(child) => child,
        Err(error) => return harness(format!("no process: {error}")),
    };
    let (lines, words) = (lines_of(&mut child), last_words_of(&mut child));
    let mut told = 0;
    let end = loop {
        match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(outcome) => {
                    told += 1;
                    if !done(outcome) {
                        break End::Enough;
                    }
                }
                Err(error) => break harness(format!("{error}, in {line:?}")),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let detail = format!("no verdict within {} s of wall time", SILENCE_MAX.as_secs());
                break End::Died(failure(FailureKind::Liveness, detail));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break End::Over,
        }
    };
    if !matches!(end, End::Over) {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait();
    let words = words.join().unwrap_or_default();
    match (end, status) {
        (End::Over, Ok(status)) if status.success() && told > 0 => End::Over,
        (End::Over, Ok(status)) => {
            let ours = [Stop::USAGE, Stop::HARNESS].iter().any(|code| status.code() == Some((*code).into()));
            let kind = if ours { FailureKind::Harness } else { FailureKind::Panic };
            End::Died(failure(kind, format!("{status}: {words}")))
        }
        (End::Over, Err(error)) => harness(error.to_string()),
        (end, _) => end,
    }
}

fn start(tasks: &[Task], bug: Option<&str>) -> std::io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("work");
    for task in tasks {
        match task {
            Task::Seed(seed) => command.arg("--seeds").arg(seed.to_string()),
            Task::Plan(path) => command.arg("--plan").arg(path),
        };
    }
    if let Some(bug) = bug {
        command.arg("--bug").arg(bug);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().expect("it is piped");
    thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

fn last_words_of(child: &mut Child) -> thread::JoinHandle<String> {
    let mut stderr = child.stderr.take().expect("it is piped");
    thread::spawn(move || {
        let mut all = Vec::new();
        let mut part = [0; 4_096];
        while let Ok(len) = stderr.read(&mut part)
            && len > 0
        {
            all.extend_from_slice(&part[..len]);
            all.drain(..all.len().saturating_sub(LAST_WORDS_MAX));
        }
        String::from_utf8_lossy(&all).trim().to_owned()
    })
}

fn failure(kind: FailureKind, detail: String) -> Failure {
    let checker = match kind {
        FailureKind::Liveness => "live",
        FailureKind::Panic => "panic",
        _ => "harness",
    };
    Failure { kind, checker: checker.to_owned(), detail }
}

fn lost(task: &Task, failure: Failure) -> Outcome {
    Outcome::lost(if let Task::Seed(seed) = task { *seed } else { 0 }, failure)
}
