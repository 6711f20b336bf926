//! The admin port of real processes: what probes, people and Prometheus get, and what strangers do not.

#[path = "support/http.rs"]
mod http;
#[path = "admin/openmetrics.rs"]
mod openmetrics;
#[path = "support/user.rs"]
mod user;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use http::{Answer, ask, get, read_to_end};
use openmetrics::Exposition;
use user::{Running, User, dev_json, eventually, free_base, pids};

/// A cluster of so many nodes, and the addresses of their admin sides.
fn cluster(user: &User, nodes: u64) -> (Running, Vec<String>) {
    let dir = user.path("cluster");
    let (base, nodes) = (free_base(nodes).to_string(), nodes.to_string());
    let dev = user.start(&["dev", "--nodes", &nodes, "--data-dir", dir.to_str().unwrap(), "--grpc-port", &base]);
    dev.stdout_until("ready");
    let file = dev_json(&dir);
    let admins = file["nodes"].as_array().unwrap().iter().map(|node| node["admin"].as_str().unwrap().to_owned());
    (dev, admins.collect())
}

fn metrics(admin: &str) -> Exposition {
    let answer = get(admin, "/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    Exposition::parse(&answer.body).unwrap_or_else(|wrong| panic!("{wrong} in:\n{}", answer.body))
}

fn error_code(answer: &Answer) -> (u16, Value) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let error: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status, error["error"]["code"].clone())
}

/// What a browser may do with any answer.
fn assert_guarded(answer: &Answer) {
    assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'self'"), "{answer:?}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{answer:?}");
}

#[test]
fn a_cluster_tells_how_it_is_and_metrics_move_with_draws() {
    let user = User::new();
    let (_dev, admins) = cluster(&user, 3);
    for admin in &admins {
        for path in ["/livez", "/readyz"] {
            let answer = get(admin, path);
            assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{path}");
            assert_guarded(&answer);
        }
        let verbose = get(admin, "/readyz?verbose").body;
        for check in ["loop", "accepting", "founded", "leader", "read"] {
            assert!(verbose.contains(&format!("[+] {check}: ok, ")), "{verbose}");
        }
    }

    let before: Vec<_> = admins.iter().map(|admin| metrics(admin)).collect();
    user.json(&["draw", "-n", "7"]);
    // A key that draws again moves the replays alone.
    let key = user.json(&["draw", "-n", "2"])["key"].as_str().unwrap().to_owned();
    user.json(&["draw", "-n", "2", "--key", &key]);
    user.json(&["state"]);
    let drawn = |outcome: &str| {
        let sample = format!("tombola_draws_total{{outcome=\"{outcome}\"}}");
        let of = |told: &[Exposition]| told.iter().map(|told| told.value(&sample)).sum::<f64>();
        let after: Vec<_> = admins.iter().map(|admin| metrics(admin)).collect();
        of(&after) - of(&before)
    };
    assert_eq!((drawn("awarded"), drawn("replayed"), drawn("refused")), (9.0, 2.0, 0.0));

    // Levels are looked at once a tick.
    eventually("every node has applied everything", || {
        let after: Vec<_> = admins.iter().map(|admin| metrics(admin)).collect();
        let all = |name: &str| after.iter().map(|told| told.value(name)).collect::<Vec<_>>();
        let applied = all("tombola_raft_proposals_applied_total");
        let leaders: f64 = all("tombola_raft_is_leader").iter().sum();
        let settled = applied.iter().all(|index| *index == applied[0] && *index > 4.0)
            && all("tombola_raft_proposals_pending") == [0.0; 3]
            && all("tombola_apply_lag_entries") == [0.0; 3];
        (settled && leaders == 1.0 && all("tombola_raft_has_leader") == [1.0; 3]).then_some(())
    });
    let after: Vec<_> = admins.iter().map(|admin| metrics(admin)).collect();
    let sum = |name: &str| after.iter().map(|told| told.value(name)).sum::<f64>();
    assert!(sum("tombola_batch_commands_count") >= 2.0);
    assert!(sum("tombola_store_commit_duration_seconds_count") >= 6.0);
    assert!(sum("tombola_read_index_duration_seconds_count") >= 4.0, "readiness reads, and `state`");
    assert!(after.iter().all(|told| told.value("tombola_store_bytes") > 4_096.0));
    assert!(after.iter().all(|told| told.value("tombola_log_entries") >= 3.0));
    assert!(after.iter().all(|told| told.value("tombola_key_table_entries") >= 2.0));
    assert!(after.iter().all(|told| told.value("tombola_key_horizon_seconds") > 60.0));

    let leaders = admins.iter().map(|admin| status(admin)).filter(|status| status["role"] == "leader");
    let [leader] = leaders.collect::<Vec<_>>().try_into().expect("one node leads");
    assert_eq!(leader["matched"].as_array().unwrap().len(), 3);
    assert_eq!(leader["leader"], leader["id"]);
    let cluster = user.json(&["cluster", "status"]);
    assert_eq!(leader["cluster_id"], cluster["cluster_id"]);
    assert_eq!(leader["digest"].as_str().unwrap().len(), 64);
    for key in ["commit_index", "applied_index", "term", "snapshot_index"] {
        assert!(leader[key].as_u64().unwrap() > 0, "{key}");
    }
    let vitals = &leader["vitals"];
    assert_eq!(
        (&vitals["strangers"], &vitals["shedding"], &vitals["waiting_commands"]),
        (&json!([]), &json!(false), &json!(0))
    );
    let commit_times = admins.iter().map(|admin| status(admin)["vitals"]["commit_time_us"].as_u64().unwrap());
    assert!(commit_times.sum::<u64>() > 0, "whoever took the draws knows how long they took");
    assert!(leader["log"]["first"].as_u64() <= leader["log"]["last"].as_u64());
}

fn status(admin: &str) -> Value {
    let answer = get(admin, "/status");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_guarded(&answer);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn without_a_majority_a_node_is_alive_and_not_ready_and_says_so_in_time() {
    let user = User::new();
    let (_dev, admins) = cluster(&user, 3);
    let pids = pids(&dev_json(&user.path("cluster")));
    for pid in &pids[1..] {
        kill_process(Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    let asked = Instant::now();
    let answer = get(&admins[0], "/readyz");
    assert!(asked.elapsed() < Duration::from_secs(3), "bounded, whoever is down: {:?}", asked.elapsed());
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("[-] read: failed, ") && answer.body.ends_with("not ok\n"), "{}", answer.body);
    assert_guarded(&answer);
    assert_eq!(get(&admins[0], "/livez").status, 200);

    // It notices by and by that nobody leads any more, and goes on telling.
    eventually("the lost leader is missed", || {
        let told = get(&admins[0], "/readyz?verbose").body;
        told.contains("[-] leader: failed, nobody is known to lead").then_some(())
    });
    assert_eq!(metrics(&admins[0]).value("tombola_raft_has_leader"), 0.0);
    assert_eq!(status(&admins[0])["leader"], Value::Null);
}

#[test]
fn strangers_get_nothing_and_cannot_hold_the_port() {
    let user = User::new();
    let (_dev, admins) = cluster(&user, 1);
    let admin = &admins[0];
    // A client that never ends its headers; it is looked at again at the end.
    let mut slow = TcpStream::connect(admin).unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").unwrap();
    let begun = Instant::now();

    let plain = |head: &str| ask(admin, &format!("{head}\r\nConnection: close\r\n\r\n"));
    let refused = |head: &str, code: &str| {
        let answer = plain(head);
        assert_guarded(&answer);
        (answer.status, error_code(&answer) == (answer.status, code.into()))
    };
    let host = format!("Host: {admin}");
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example:50053";
    assert_eq!(refused(rebound, "HOST_NOT_ALLOWED"), (403, true));
    assert_eq!(refused("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost", "HOST_NOT_ALLOWED"), (403, true));
    assert_eq!(refused("GET /metrics HTTP/1.0", "HOST_NOT_ALLOWED"), (403, true));
    let foreign = format!("GET /status HTTP/1.1\r\n{host}\r\nOrigin: http://evil.example");
    assert_eq!(refused(&foreign, "ORIGIN_NOT_ALLOWED"), (403, true));
    assert_eq!(refused(&format!("GET /../etc/passwd HTTP/1.1\r\n{host}"), "NOT_FOUND"), (404, true));
    assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{host}"), "NOT_FOUND"), (404, true));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let head = format!("{method} /livez HTTP/1.1\r\n{host}\r\nContent-Length: 0");
        assert_eq!(refused(&head, "METHOD_NOT_ALLOWED"), (405, true), "{method}");
    }
    let long = format!("GET /livez HTTP/1.1\r\n{host}\r\nContent-Length: 65537");
    assert_eq!(refused(&long, "BODY_TOO_LARGE"), (413, true));
    assert!(plain(&format!("HEAD /livez HTTP/1.1\r\n{host}")).body.is_empty());

    // What is no HTTP is answered by an error of HTTP at most.
    let huge = format!("GET /livez HTTP/1.1\r\n{host}\r\nX-Long: {}\r\n\r\n", "x".repeat(64 << 10));
    for (garbage, statuses) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[400][..]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 403, 505]),
        (b"\0\0\0\0\r\n\r\n", &[400]),
        (b"GET /livez\r\n\r\n", &[400]),
        (huge.as_bytes(), &[431]),
    ] {
        let mut stream = TcpStream::connect(admin).unwrap();
        // It may be answered and closed before all is sent.
        let _ = stream.write_all(garbage);
        let told = read_to_end(&mut stream);
        let status = Answer::parse(&told).map(|answer| answer.status);
        assert!(status.is_none_or(|status| statuses.contains(&status)), "{garbage:?}: {told}");
    }

    // Sixteen at once, of which one is slow: whoever comes then is closed unread, and let in when there is room.
    let silent: Vec<_> = (0..15).map(|_| TcpStream::connect(admin).unwrap()).collect();
    eventually("the port is full", || {
        let mut one_more = TcpStream::connect(admin).unwrap();
        let _ = one_more.write_all(format!("GET /livez HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n").as_bytes());
        read_to_end(&mut one_more).is_empty().then_some(())
    });
    drop(silent);
    eventually("there is room again", || {
        let mut stream = TcpStream::connect(admin).unwrap();
        let _ = stream.write_all(format!("GET /livez HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n").as_bytes());
        (Answer::parse(&read_to_end(&mut stream))?.status == 200).then_some(())
    });

    let told = read_to_end(&mut slow);
    assert!(Answer::parse(&told).is_none_or(|answer| answer.status == 408), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(30), "10 s are enough for headers: {:?}", begun.elapsed());
    assert_eq!(get(admin, "/readyz").status, 200, "and nothing of it mattered");
}

#[test]
fn an_admin_side_that_others_could_reach_does_not_start() {
    let user = User::new();
    let (mut dev, _) = cluster(&user, 1);
    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
    let config = user.path("cluster/node-1/config.yaml");
    let output = user.run(&["serve", "--config", config.to_str().unwrap(), "--admin-listen", "0.0.0.0:50053"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("the admin side on 0.0.0.0:50053: it has neither TLS nor tokens"), "{told}");
}

#[test]
fn the_metrics_that_are_documented_are_those_that_are_told() {
    let user = User::new();
    let (_dev, admins) = cluster(&user, 1);
    let document = fs::read_to_string("docs/metrics.md").unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `tombola_"));
    let documented: BTreeSet<_> = rows
        .map(|row| {
            let (name, rest) = row.split_once('`').unwrap();
            let kind = rest.split('|').nth(1).unwrap().trim();
            (format!("tombola_{name}"), kind.to_owned())
        })
        .collect();
    // A frame that could not leave comes with the first one that cannot; a cluster of one sends none.
    let told = metrics(&admins[0]).families();
    let told: BTreeSet<_> =
        told.into_iter().chain([("tombola_peer_dropped_total".to_owned(), "counter".to_owned())]).collect();
    assert_eq!(documented, told);
}
