//! `dev`, `serve` and `certs` as real processes: what they print, what they leave, what becomes of them.

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
const PATIENCE: Duration = Duration::from_secs(60);

/// A user of their own: a home, a place for temporary files, and processes that do not outlive the test.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        let home = TempDir::new().unwrap();
        for dir in ["run", "tmp"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombola"));
        command.args(args).current_dir(self.home.path());
        self.at_home(&mut command);
        command
    }

    fn at_home(&self, command: &mut Command) {
        for (variable, dir) in
            [("HOME", ""), ("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state"), ("TMPDIR", "tmp")]
        {
            command.env(variable, self.path(dir));
        }
        command.env_remove("RUST_LOG").stdin(Stdio::null());
    }

    /// Runs a command to its end.
    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; gives its JSON.
    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["-o", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// What is left in the place for temporary files, and of pointers to clusters.
    fn left(&self) -> Vec<PathBuf> {
        let list = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
        list(self.path("tmp"))
            .chain(list(self.path("run/tombola/dev")))
            .chain(list(self.path("state/tombola/dev")))
            .collect()
    }
}

/// A process that runs. Killed when dropped, so that a failing test leaves nothing.
struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Lines of stdout up to and including the one that begins with `start`.
    fn stdout_until(&self, start: &str) -> Vec<String> {
        until(&self.stdout, start).unwrap_or_else(|seen| {
            let told: Vec<_> = self.stderr.try_iter().collect();
            panic!("no line {start:?} on stdout after {seen:?}; stderr: {told:?}")
        })
    }

    /// Lines of stderr up to and including the one that contains `part`.
    fn stderr_until(&self, part: &str) -> Vec<String> {
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

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
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

fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
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

fn until(lines: &Receiver<String>, start: &str) -> Result<Vec<String>, Vec<String>> {
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

fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
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
fn free_base(nodes: u64) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let base = first + NEXT.fetch_add(1, Ordering::Relaxed) * 50;
        if ports::check_free(nodes, base, "").is_ok() {
            return base;
        }
    }
}

fn exists(pid: u64) -> bool {
    test_kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()).is_ok()
}

fn dev_json(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("dev.json")).unwrap()).unwrap()
}

fn pids(dev_json: &Value) -> Vec<u64> {
    dev_json["nodes"].as_array().unwrap().iter().map(|node| node["pid"].as_u64().unwrap()).collect()
}

#[test]
fn one_node_is_ready_found_drawn_from_and_leaves_nothing() {
    let user = User::new();
    let base = free_base(1);
    let started = Instant::now();
    let mut dev = user.start(&["dev", "--nodes", "1", "--grpc-port", &base.to_string()]);
    let printed = dev.stdout_until("next, in another terminal: ");
    println!("ready after {:?}", started.elapsed());
    assert!(printed.contains(&"ready".to_owned()), "{printed:?}");
    assert!(printed[0].starts_with("id") && printed[1].contains("leader"), "{printed:?}");
    let dir = printed.iter().find_map(|line| line.strip_prefix("data directory ")).unwrap();
    let dir = PathBuf::from(dir.strip_suffix(" (deleted at the end)").unwrap());

    let file = dev_json(&dir);
    let address = |offset: u16| Value::from(format!("127.0.0.1:{}", base + offset));
    let node = &file["nodes"][0];
    assert_eq!(
        (&node["id"], &node["grpc"], &node["quic"], &node["admin"]),
        (&1.into(), &address(0), &address(1), &address(2))
    );
    for key in ["ca", "cert", "key"] {
        let path = Path::new(file[key].as_str().unwrap());
        assert!(path.is_absolute() && path.exists(), "{key}");
    }

    // The printed command, from anywhere, without a flag.
    let draw = printed.last().unwrap().strip_prefix("next, in another terminal: ").unwrap();
    let mut shell = Command::new("sh");
    user.at_home(shell.args(["-c", &format!("{draw} -o json")]).current_dir("/"));
    let drawn = shell.output().unwrap();
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    let drawn: Value = serde_json::from_slice(&drawn.stdout).unwrap();
    assert_eq!(drawn["awards"].as_array().unwrap().len(), 5);
    let items: Vec<_> =
        user.json(&["state"])["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
    assert_eq!(items, ["diamond", "gold", "silver", "rock", "mud", "log"]);

    let pid = pids(&file)[0];
    assert!(exists(pid));
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    assert!(!exists(pid));
    assert!(!dir.exists());
    assert_eq!(user.left(), Vec::<PathBuf>::new());
}

#[test]
fn a_killed_node_is_reported_and_comes_back_by_the_printed_command_and_data_are_kept() {
    let user = User::new();
    let (dir, base) = (user.path("cluster"), free_base(3).to_string());
    let args = ["dev", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base];
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    let before = pids(&dev_json(&dir));
    assert_eq!(before.len(), 3);
    let key = user.json(&["draw", "-n", "10"])["key"].as_str().unwrap().to_owned();

    let killed = Pid::from_raw(i32::try_from(before[1]).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    let told = dev.stderr_until("bring it back with: ").join("\n");
    assert!(told.contains(&format!("node 2 (pid {}) was killed (signal 9)", before[1])), "{told}");
    assert!(exists(before[0]) && exists(before[2]), "nothing else stops");
    user.json(&["draw", "-n", "10"]);

    let command = told.split_once("bring it back with: ").unwrap().1;
    let mut shell = Command::new("sh");
    // `exec`, so that the shell's process is the node's.
    user.at_home(shell.args(["-c", &format!("exec {command}")]).current_dir("/"));
    let mut by_hand = Running::start(shell);
    dev.stderr_until("node 2 is back");
    let after = pids(&dev_json(&dir));
    assert_eq!(after, [before[0], u64::from(by_hand.child.id()), before[2]]);
    by_hand.stderr_until("ready");

    dev.signal(Signal::INT);
    assert!(dev.wait().success());
    assert!(!exists(before[0]) && !exists(before[2]));
    assert!(by_hand.child.try_wait().unwrap().is_none(), "it is not dev's to stop");
    by_hand.signal(Signal::TERM);
    assert!(by_hand.wait().success());
    assert!(!dir.join("dev.json").exists() && user.left().is_empty());

    // Another run goes on with the data, its number of nodes and its ports; the same key gives the same draw.
    let mut dev = user.start(&["dev", "--data-dir", dir.to_str().unwrap()]);
    dev.stdout_until("ready");
    assert_eq!(dev_json(&dir)["nodes"][0]["grpc"], format!("127.0.0.1:{base}"));
    let again = user.json(&["draw", "-n", "10", "--key", &key]);
    assert_eq!(again["replayed"], true);
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
}

#[test]
fn a_detached_cluster_stays_until_the_printed_command_stops_it() {
    let user = User::new();
    let output = user.run(&["dev", "--nodes", "1", "--detach", "--grpc-port", &free_base(1).to_string()]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed} {}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.lines().any(|line| line == "ready"), "{printed}");
    let stop = printed.lines().find_map(|line| line.strip_prefix("stop it with: ")).unwrap();
    user.json(&["draw"]);
    assert!(Command::new("sh").args(["-c", stop]).status().unwrap().success());
    eventually("everything is gone", || user.left().is_empty().then_some(()));
    let pid = stop.strip_prefix("kill ").unwrap().parse().unwrap();
    eventually("the process is gone", || (!exists(pid)).then_some(()));
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left() {
    let user = User::new();
    let base = free_base(3);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", base + 10)).unwrap();
    for detach in [&[][..], &["--detach"][..]] {
        let output = user.run(&[&["dev", "--grpc-port", &base.to_string()], detach].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&format!("error[PORT_IN_USE]: TCP port {} is in use", base + 10)), "{told}");
        assert!(told.contains("the next free base is --grpc-port "), "{told}");
        assert_eq!(user.left(), Vec::<PathBuf>::new());
    }
}

#[test]
fn two_devs_do_not_share_a_directory_and_a_directory_keeps_its_number_of_nodes() {
    let user = User::new();
    let (dir, base) = (user.path("cluster"), free_base(1).to_string());
    let args = ["dev", "--nodes", "1", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base];
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    let second = user.run(&args);
    assert!(String::from_utf8_lossy(&second.stderr).starts_with("error[DIRECTORY_IN_USE]"));
    assert!(dir.join("dev.json").exists());
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    let three = user.run(&["dev", "--nodes", "3", "--data-dir", dir.to_str().unwrap()]);
    assert_eq!(three.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&three.stderr).contains("holds a cluster of 1 nodes, not of 3"));
}

#[test]
fn nodes_started_by_hand_from_certs_init_form_a_cluster() {
    let user = User::new();
    let base = free_base(3);
    let id = user.json(&["certs", "init", "--dir", "certs", "--nodes", "3", "--client", "me"])["cluster_id"].clone();
    let nodes: Vec<_> = (0..3)
        .map(|n| {
            format!("{{ id: {}, quic: '127.0.0.1:{}', grpc: '127.0.0.1:{}' }}", n + 1, base + 1 + 10 * n, base + 10 * n)
        })
        .collect();
    let id = id.as_str().unwrap();
    let catalog = "pool: { catalog: [{ item_id: gold, quantity: 3, probability: 1 }] }";
    let running: Vec<_> = (1..=3)
        .map(|node| {
            let text = format!(
                "node: {node}\ncluster: {{ id: {id}, nodes: [{}] }}\ndata_dir: data\ntls: {{ dir: certs }}\n{catalog}\n",
                nodes.join(", ")
            );
            let file = format!("node-{node}.yaml");
            fs::write(user.path(&file), text).unwrap();
            assert!(user.run(&["config", "check", &file]).status.success());
            user.start(&["serve", "--config", &file, "--log-format", "text"])
        })
        .collect();
    for node in &running {
        node.stderr_until("ready");
    }
    let endpoints = format!("127.0.0.1:{}", base + 11);
    let as_me = [
        "--endpoints",
        &endpoints,
        "--tls-ca",
        "certs/node-ca.pem",
        "--tls-cert",
        "certs/me.pem",
        "--tls-key",
        "certs/me.key",
    ];
    let drawn = eventually("the catalog is in", || {
        let output = user.run(&[&["draw", "-n", "4", "-o", "json"][..], &as_me].concat());
        (output.status.code() == Some(0)).then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    assert!(
        drawn["awards"].as_array().unwrap().iter().filter(|award| award["item_id"] == "gold").count() == 3,
        "{drawn}"
    );
    for mut node in running {
        node.signal(Signal::TERM);
        assert!(node.wait().success());
    }
}

#[test]
fn the_predecessors_configuration_is_served_unchanged() {
    let user = User::new();
    let base = free_base(1);
    let text = format!(
        "working_dir: tmp\npool:\n  catalog:\n    - item_id: gold\n      quantity: 5\n      probability: 20\n\
         wal:\n  max_file_size_kb: 512\n  formatter: string_line\n  flush_after_n_draw: 200\n\
         grpc:\n  enabled: true\n  listen_address: \":{base}\"\n"
    );
    fs::write(user.path("config.yaml"), text).unwrap();
    for run in 0..2 {
        let mut node = user.start(&["serve", "--config", "config.yaml", "--log-format", "text"]);
        let told = node.stderr_until("ready");
        assert_eq!(told.iter().filter(|line| line.contains("WARN")).count(), 1, "run {run}: {told:#?}");
        assert!(told.iter().any(|line| line.contains("`wal` has no effect")), "{told:#?}");
        std::net::TcpStream::connect(("127.0.0.1", base)).unwrap();
        node.signal(Signal::TERM);
        assert!(node.wait().success());
    }
    assert!(user.path("tmp/tombola/data/replica-1").exists());
}

#[test]
fn serve_without_a_configuration_says_what_the_predecessor_said() {
    let user = User::new();
    let output = user.run(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("Error: config file path is required.\n"), "{told}");
    assert!(told.contains("--config <FILE>"), "{told}");
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let user = User::new();
    fs::write(user.path("config.yaml"), "node: 1\ndata_dri: x\n").unwrap();
    for verb in [&["serve", "--config"][..], &["config", "check"], &["config", "show"]] {
        let output = user.run(&[verb, &["config.yaml"]].concat());
        assert_eq!(output.status.code(), Some(2), "{verb:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("error[CONFIG_INVALID]: config.yaml:2:1: unknown key `data_dri`"), "{told}");
        assert!(told.contains("did you mean `data_dir`?"), "{told}");
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let user = User::new();
    let id = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";
    let text = format!(
        "node: 1\ncluster: {{ id: {id}, nodes: [{{ id: 1, quic: '127.0.0.1:9' }}] }}\ndata_dir: file\ntls: {{ dir: c }}\n"
    );
    fs::write(user.path("config.yaml"), text).unwrap();
    let shown = |args: &[&str], variable: Option<&str>| {
        let mut command = user.command([&["config", "show", "config.yaml", "-o", "json"], args].concat());
        if let Some(value) = variable {
            command.env("TOMBOLA_DATA_DIR", value);
        }
        let rows: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let row = rows.as_array().unwrap().iter().find(|row| row["key"] == "data_dir").unwrap().clone();
        (row["value"].as_str().unwrap().to_owned(), row["from"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, from: &str| (value.to_owned(), from.to_owned());
    assert_eq!(shown(&[], None), pair("file", "file, line 3"));
    assert_eq!(shown(&[], Some("variable")), pair("variable", "environment TOMBOLA_DATA_DIR"));
    assert_eq!(shown(&["--data-dir", "flag"], Some("variable")), pair("flag", "flag --data-dir"));
}
