//! A pool too large to be read at once, from the command line.

#[path = "support/user.rs"]
mod user;

use std::fmt::Write as _;

use serde_json::Value;
use tombola::pool::WHOLE_POOL_ITEMS_MAX;

use user::{User, free_base};

#[test]
fn a_large_pool_is_shown_and_verified_page_by_page() {
    let user = User::new();
    let items = WHOLE_POOL_ITEMS_MAX + 100;
    let mut catalog = "catalog:\n".to_owned();
    for n in 0..items {
        writeln!(catalog, "  - {{ item_id: \"{n}\", quantity: {n}, probability: 1 }}").unwrap();
    }
    std::fs::write(user.path("catalog.yaml"), catalog).unwrap();
    let base = free_base(1).to_string();
    let dev = user.start(&["dev", "--nodes", "1", "--grpc-port", &base, "--catalog", "catalog.yaml"]);
    dev.stdout_until("ready");

    let shown = user.json(&["state"]);
    let listed = shown["items"].as_array().unwrap();
    assert_eq!(listed.len(), items);
    assert!((0..items).all(|n| listed[n]["id"] == n.to_string() && listed[n]["remaining"] == n));
    assert!(shown["index"].as_u64() <= shown["last_index"].as_u64() && shown["stale"] == false);
    assert_eq!(user.json(&["state", "--stale"])["items"].as_array().unwrap().len(), items);
    let verified = user.json(&["verify"]);
    assert_eq!((&verified["ok"], verified["items"].as_array().unwrap().len()), (&Value::from(true), items));
    let pools = user.json(&["pool", "list"]);
    assert_eq!((&pools["pools"][0]["pool"], &pools["pools"][0]["items"]), (&"default".into(), &items.into()));
}

#[test]
fn a_pool_is_changed_under_the_version_it_has_or_is_said_to_have() {
    let user = User::new();
    let dev = user.start(&["dev", "--nodes", "1", "--grpc-port", &free_base(1).to_string()]);
    dev.stdout_until("ready");
    let updated = user.json(&["pool", "update", "default", "--policy", "fallback:mud"]);
    assert_eq!((&updated["result"], &updated["version"]), (&"updated".into(), &2.into()));
    let key = updated["key"].as_str().unwrap();
    let again = ["pool", "update", "default", "--policy", "fallback:mud", "--etag", "1", "--key", key];
    assert_eq!(user.json(&again)["replayed"], true);
    user.json(&["pool", "update", "default", "--require-key", "true", "--etag", "2"]);
    let state = user.json(&["state"]);
    assert_eq!((&state["policy"], &state["require_key"]), (&"fallback:mud".into(), &true.into()));

    let late = user.run(&["pool", "update", "default", "--policy", "miss", "--etag", "2", "-o", "json"]);
    assert_eq!(late.status.code(), Some(4));
    let error: Value = serde_json::from_slice(&late.stderr).unwrap();
    assert_eq!(error["error"]["code"], "ETAG_MISMATCH");
    assert_eq!(user.run(&["pool", "update", "default"]).status.code(), Some(2), "nothing to change");
    let finite = user.run(&["pool", "update", "default", "--policy", "fallback:gold"]);
    assert_eq!(finite.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&finite.stderr).contains("FALLBACK_FINITE"));
}
