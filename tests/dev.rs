//! `dev`, `serve` and `certs` as real processes: what they print, what they leave, what becomes of them.

#[path = "support/user.rs"]
mod user;

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tombola::cli::ports;

use user::{Running, User, dev_json, eventually, exists, free_base, pids};

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
fn the_nodes_of_a_killed_dev_live_on_and_the_next_one_names_them() {
    let user = User::new();
    let (dir, base) = (user.path("cluster"), free_base(1).to_string());
    let args = ["dev", "--nodes", "1", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base];
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    dev.signal(Signal::KILL);
    dev.wait();
    let node = pids(&dev_json(&dir))[0];
    user.json(&["draw"]);
    let output = user.run(&args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error[PORT_IN_USE]") && told.contains(&format!("kill {node}")), "{told}");
    kill_process(Pid::from_raw(i32::try_from(node).unwrap()).unwrap(), Signal::TERM).unwrap();
    eventually("the node stops", || (!exists(node)).then_some(()));
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
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
fn serve_names_the_port_in_use_and_the_predecessors_state_is_not_left_out_silently() {
    let user = User::new();
    let base = free_base(1);
    let text = format!("working_dir: old\ngrpc:\n  enabled: true\n  listen_address: \"127.0.0.1:{base}\"\n");
    fs::write(user.path("config.yaml"), text).unwrap();
    fs::create_dir(user.path("old")).unwrap();
    let refused = |code: i32, part: &str| {
        let output = user.run(&["serve", "--config", "config.yaml", "--log-level", "off"]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(part), "{told}");
        told
    };
    fs::write(user.path("old/wal.001"), "").unwrap();
    refused(2, "error[OLD_STATE]");
    assert!(!user.path("old/tombola").exists());
    fs::remove_file(user.path("old/wal.001")).unwrap();

    let _grpc = std::net::TcpListener::bind(("127.0.0.1", base)).unwrap();
    let told = refused(1, &format!("error[PORT_IN_USE]: TCP port {base} is in use"));
    assert!(told.contains("--grpc-listen changes it: "), "{told}");
    drop(_grpc);
    let _quic = std::net::UdpSocket::bind(("127.0.0.1", base + 1)).unwrap();
    let told = refused(1, &format!("error[PORT_IN_USE]: UDP port {} is in use", base + 1));
    assert!(told.contains("--quic-listen changes it: "), "{told}");
}

#[test]
fn a_node_that_does_not_come_up_ends_dev_with_the_end_of_its_log() {
    let user = User::new();
    let (dir, base) = (user.path("cluster"), free_base(3).to_string());
    let args = ["dev", "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base];
    let mut dev = user.start(&args);
    dev.stdout_until("ready");
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    fs::write(dir.join("node-2/data/replica-2/store.redb"), "no store").unwrap();
    let output = user.run(&args);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("error[NODE_ENDED]: node 2 exited with code 1 before the cluster was ready"), "{told}");
    assert!(told.contains("error[STORE_"), "the log's end is shown: {told}");
    assert!(!dir.join("dev.json").exists() && user.left().is_empty());
    for node in 1..=3 {
        // The number in it may be missing: a node can be stopped before it has written it.
        let lock = fs::File::open(dir.join(format!("node-{node}/data/replica-{node}/LOCK"))).unwrap();
        assert!(lock.try_lock().is_ok(), "node {node} was stopped");
    }
}

#[test]
fn a_signal_before_the_cluster_is_ready_leaves_nothing() {
    let user = User::new();
    let base = free_base(3);
    let mut dev = user.start(&["dev", "--grpc-port", &base.to_string()]);
    // As soon as a node exists, whatever it is doing.
    eventually("a node is started", || {
        let mut dirs = fs::read_dir(user.path("tmp")).unwrap();
        dirs.any(|dir| dir.unwrap().path().join("node-1/log").exists()).then_some(())
    });
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    assert_eq!(user.left(), Vec::<PathBuf>::new());
    ports::check_free(3, base, "").expect("no node is left that holds a port");
}

#[test]
fn a_catalog_of_ones_own_and_json_for_scripts() {
    let user = User::new();
    fs::write(
        user.path("catalog.json"),
        r#"{ "catalog": [ { "item_id": "a: \"b\"", "quantity": 2, "probability": 1 } ] }"#,
    )
    .unwrap();
    let args =
        ["dev", "--nodes", "1", "--catalog", "catalog.json", "--grpc-port", &free_base(1).to_string(), "-o", "json"];
    let mut dev = user.start(&args);
    let printed = dev.stdout_until("{");
    assert_eq!(printed.len(), 1);
    let printed: Value = serde_json::from_str(&printed[0]).unwrap();
    assert_eq!(printed["temporary"], true);
    assert_eq!(printed["nodes"], dev_json(Path::new(printed["data_dir"].as_str().unwrap()))["nodes"]);
    let items = user.json(&["state"])["items"].clone();
    assert_eq!(
        (&items[0]["id"], &items[0]["remaining"], items.as_array().unwrap().len()),
        (&"a: \"b\"".into(), &2.into(), 1)
    );
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());

    fs::write(user.path("catalog.json"), "catalog: [{ item_id: a, quantity: -2, probability: 1 }]").unwrap();
    let output = user.run(&args);
    assert_eq!(output.status.code(), Some(2));
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["error"]["code"], "CONFIG_INVALID");
    assert!(told["error"]["message"].as_str().unwrap().starts_with("catalog.json:1:35: a quantity is -1"), "{told}");
    assert_eq!(user.left(), Vec::<PathBuf>::new());
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
fn data_that_cannot_be_written_is_told_elsewhere_and_no_success() {
    let user = User::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output =
        user.command(["key", "--from", "order 7", "--at", "2026-01-01T00:00:00Z"]).stdout(full).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("error[OUTPUT]: stdout cannot be written"), "{told}");
    assert!(told.lines().nth(1).is_some_and(|line| line.contains('-')), "the key is not lost: {told}");
}

#[test]
fn an_argument_that_is_no_text_is_a_usage_error() {
    let user = User::new();
    let garbled = OsStr::from_bytes(b"\xff\xfe");
    for args in [[OsStr::new("state"), garbled], [OsStr::new("-ojson"), garbled]] {
        let output = user.command(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
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
