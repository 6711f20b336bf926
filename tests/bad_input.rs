//! Bad input of every kind that the command line lets through or stops: a clear error with a stable code and the right
//! exit, no panic, and a state that is what it was.

#[path = "support/user.rs"]
mod user;

use rustix::process::Signal;
use serde_json::Value;

use user::{User, dev_json, free_base};

/// What is typed, the exit code, and the code of the error. `KEY` stands for a key that drew twice, `FUTURE` and `PAST`
/// for keys of other times.
const WRONG: [(&str, i32, &str); 42] = [
    ("draw --pool nopool", 4, "NOT_FOUND"),
    ("draw --pool No_Pool", 2, "USAGE"),
    ("draw --pool 0pool", 2, "USAGE"),
    ("draw -n 0", 2, "USAGE"),
    ("draw -n -1", 2, "USAGE"),
    ("draw -n 1001", 2, "USAGE"),
    ("draw -n 18446744073709551616", 2, "USAGE"),
    ("draw -n 1.5", 2, "USAGE"),
    ("draw --key hello", 2, "USAGE"),
    ("draw --key 00000000-0000-4000-8000-000000000000", 2, "USAGE"),
    ("draw --key ffffffff-ffff-7fff-bfff-ffffffffffff", 4, "KEY_FROM_FUTURE"),
    ("draw --key FUTURE", 4, "KEY_FROM_FUTURE"),
    ("draw --key PAST", 4, "KEY_EXPIRED"),
    ("draw --key KEY -n 3", 4, "KEY_REUSED"),
    ("claim gold --key KEY", 4, "KEY_REUSED"),
    ("claim nothing", 4, "NOT_FOUND"),
    ("claim gold --quantity 0", 2, "USAGE"),
    ("claim gold --quantity -1", 2, "USAGE"),
    ("claim gold --quantity 1000001", 2, "USAGE"),
    ("claim gold --quantity 99999999999999999999", 2, "USAGE"),
    ("item set gold --quantity -2 --weight 1", 2, "USAGE"),
    ("item set gold --quantity 9007199254740992 --weight 1", 2, "USAGE"),
    ("item set gold --quantity 99999999999999999999 --weight 1", 2, "USAGE"),
    ("item set gold --quantity 1 --weight -1", 2, "USAGE"),
    ("item set gold --quantity 1 --weight 4294967296", 2, "USAGE"),
    ("item set gold --quantity one --weight 1", 2, "USAGE"),
    ("item adjust gold --by 0", 2, "USAGE"),
    ("item adjust gold --by -1000000", 4, "INSUFFICIENT_STOCK"),
    ("item adjust gold --by +9007199254740991", 4, "STOCK_OVERFLOW"),
    ("item adjust gold --by +9223372036854775808", 2, "USAGE"),
    ("item adjust mud --by +1", 4, "ITEM_UNLIMITED"),
    ("item adjust nothing --by +1", 4, "NOT_FOUND"),
    ("item remove nothing", 4, "NOT_FOUND"),
    ("pool create default", 4, "POOL_EXISTS"),
    ("pool pause nopool", 4, "NOT_FOUND"),
    ("state --pool nopool", 4, "NOT_FOUND"),
    ("outcome KEY --pool nopool", 4, "NOT_FOUND"),
    ("outcome hello", 2, "USAGE"),
    ("cluster transfer 9", 4, "TRANSFER_REFUSED"),
    ("cluster transfer one", 2, "USAGE"),
    ("draw --colour red", 2, "USAGE"),
    ("paint", 2, "USAGE"),
];

/// A catalog that no pool takes: what is typed, and where it is wrong.
const CATALOGS: [(&str, &str); 5] = [
    ("catalog: [{ item_id: gold, quantity: -2, probability: 1 }]", ":1:38:"),
    ("catalog: [{ item_id: gold, quantity: 1, probability: 4294967296 }]", ":1:54:"),
    ("catalog:\n  - { item_id: gold, qantity: 1, probability: 1 }", "did you mean `quantity`?"),
    (
        "catalog:\n  - { item_id: gold, quantity: 1, probability: 1 }\n  - { item_id: gold, quantity: 1, probability: 1 }",
        ":3:",
    ),
    ("catalog: [{ item_id: gold", ":1:"),
];

/// The codes that stand in an error, and in no other text.
fn code(stderr: &[u8]) -> String {
    let json: Value = serde_json::from_slice(stderr)
        .unwrap_or_else(|_| panic!("no JSON on stderr: {}", String::from_utf8_lossy(stderr)));
    let message = json["error"]["message"].as_str().unwrap();
    assert!(!message.is_empty() && !message.contains("panic"), "{message}");
    json["error"]["code"].as_str().unwrap().to_owned()
}

/// All that the pools hold; but time, which goes on with every entry, also with one that is refused.
fn state(user: &User) -> [Value; 2] {
    let mut pool = user.json(&["state"]);
    let mut pools = user.json(&["pool", "list"])["pools"].take();
    for fact in ["index", "last_index", "now_ms", "key_floor_ms"] {
        pool.as_object_mut().unwrap().remove(fact);
        pools.as_array_mut().unwrap().iter_mut().for_each(|pool| _ = pool.as_object_mut().unwrap().remove(fact));
    }
    [pool, pools]
}

/// A client of another cluster, which trusts this one's nodes: each of its commands ends at once, with the reason.
fn assert_is_foreign(user: &User) {
    assert!(user.run(&["certs", "init", "--dir", "foreign", "--nodes", "3", "--client", "me"]).status.success());
    let file = dev_json(&user.path("cluster"));
    let (ca, quic) = (file["ca"].as_str().unwrap(), file["nodes"][0]["quic"].as_str().unwrap());
    for verb in ["draw", "state", "cluster status"] {
        let known =
            ["--endpoints", quic, "--tls-ca", ca, "--tls-cert", "foreign/me.pem", "--tls-key", "foreign/me.key"];
        let words: Vec<_> = verb.split(' ').chain(known).chain(["--timeout", "1h", "-o", "json"]).collect();
        let output = user.run(&words);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((code(&output.stderr).as_str(), output.status.code()), ("HANDSHAKE_REFUSED", Some(2)), "{verb}");
        assert!(told.contains("invalid peer certificate: UnknownIssuer") && told.contains("--tls-cert"), "{told}");
    }
}

#[test]
fn what_is_wrong_gets_a_code_and_changes_nothing() {
    let user = User::new();
    std::fs::write(
        user.path("catalog.yaml"),
        "catalog: [{ item_id: gold, quantity: 100, probability: 1 }, { item_id: mud, quantity: -1, probability: 9 }]",
    )
    .unwrap();
    let base = free_base(1).to_string();
    let mut dev = user.start(&[
        "dev",
        "--nodes",
        "1",
        "--data-dir",
        "cluster",
        "--grpc-port",
        &base,
        "--catalog",
        "catalog.yaml",
    ]);
    dev.stdout_until("ready");
    let key = |args: &[&str]| user.json(&[&["key"], args].concat())["key"].as_str().unwrap().to_owned();
    let known = key(&[]);
    user.json(&["draw", "-n", "2", "--key", &known]);
    let future = key(&["--from", "order-1", "--at", "2099-01-01T00:00:00Z"]);
    let past = key(&["--from", "order-1", "--at", "2020-01-01T00:00:00Z"]);

    let before = state(&user);
    for (typed, exit, expected) in WRONG {
        let words = typed.split(' ').map(|word| match word {
            "KEY" => &known,
            "FUTURE" => &future,
            "PAST" => &past,
            word => word,
        });
        let words: Vec<_> = words.chain(["-o", "json"]).collect();
        let output = user.run(&words);
        assert_eq!(code(&output.stderr), expected, "{typed}");
        assert_eq!(output.status.code(), Some(exit), "{typed}");
        assert!(output.stdout.is_empty(), "{typed}");
    }
    assert_is_foreign(&user);
    assert_eq!(state(&user), before, "something was changed");
    assert!(user.run(&["verify"]).status.success());

    dev.signal(Signal::TERM);
    assert!(dev.wait().success());
}

#[test]
fn a_catalog_that_is_wrong_is_told_with_its_place_and_starts_nothing() {
    let user = User::new();
    for (text, place) in CATALOGS {
        std::fs::write(user.path("catalog.yaml"), text).unwrap();
        let base = free_base(1).to_string();
        let output = user.run(&["dev", "--nodes", "1", "--grpc-port", &base, "--catalog", "catalog.yaml"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {told}");
        assert!(told.contains(place) && !told.contains("panicked"), "{text}: {told}");
    }
    assert!(user.left().is_empty());
}
