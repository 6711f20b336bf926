//! Golden errors and accepted files. `INSTA_UPDATE=always cargo test` rewrites the golden file; read the difference.

use std::fmt::Write;

use proptest::prelude::*;

use super::{diagnostic::Source, *};
use crate::{
    pool::{QUANTITY_MAX, Stock},
    types::ReplicaId,
};

/// A correct file, which each wrong one differs from in one place.
const RIGHT: &str = "\
node: 1
cluster:
  id: 1b4e28ba-2fa1-41d2-883f-0016d3cca427
  nodes:
    - { id: 1, quic: \"127.0.0.1:50052\", grpc: \"127.0.0.1:50051\" }
    - { id: 2, quic: \"127.0.0.1:50062\", grpc: \"127.0.0.1:50061\" }
data_dir: data
tls: { dir: certs }
grpc: { plaintext: true }
pool:
  catalog:
    - { item_id: gold, quantity: 10, probability: 20 }
";

/// The predecessor's own sample, key for key.
const PREDECESSOR: &str = "\
working_dir: ./tmp
pool:
  catalog:
    - item_id: diamond
      quantity: 100
      probability: 10
    - item_id: mud
      quantity: -1
      probability: 70
wal:
  max_file_size_kb: 512
  max_request_buffer_size: 512
  formatter: string_line
  flush_after_n_draw: 200
grpc:
  enabled: true
  listen_address: \":50051\"
";

fn settled(text: &str) -> Result<Settings, Rejected> {
    settled_with(text, &Overrides::default())
}

fn settled_with(text: &str, overrides: &Overrides) -> Result<Settings, Rejected> {
    settle_on(text, overrides, None)
}

fn settle_on(text: &str, overrides: &Overrides, machine: Option<u64>) -> Result<Settings, Rejected> {
    settle(&Source { path: "dir/config.yaml".into(), text: text.to_owned() }, overrides, machine)
}

#[test]
fn a_machine_too_small_for_the_limits_is_told_with_the_setting() {
    let gib = Some(1 << 30);
    let limited = |size| RIGHT.replacen("  nodes:", &format!("  limits: {{ keys_bytes_max: {size} }}\n  nodes:"), 1);
    for text in [RIGHT, PREDECESSOR, &limited("272MiB")] {
        assert!(settle_on(text, &Overrides::default(), gib).is_ok());
    }
    let rejected = settle_on(&limited("1GiB"), &Overrides::default(), gib).unwrap_err().to_string();
    assert!(rejected.starts_with("dir/config.yaml:4:29"), "{rejected}");
    for part in ["may take 2528MiB", "this machine has 1GiB", "keys_bytes_max: 272MiB"] {
        assert!(rejected.contains(part), "{rejected}");
    }
    for text in [RIGHT, PREDECESSOR] {
        let rejected = settle_on(text, &Overrides::default(), Some(512 << 20)).unwrap_err().to_string();
        assert!(rejected.contains("keys_bytes_max: 16MiB"), "{rejected}");
    }
}

#[test]
fn a_machine_too_small_for_the_log_is_told_with_the_setting() {
    let text = format!("{RIGHT}snapshots: {{ log_bytes_max: 100TiB, trailing_bytes: 10TiB }}\n");
    let rejected = settle_on(&text, &Overrides::default(), Some(24 << 30)).unwrap_err().to_string();
    assert!(rejected.starts_with("dir/config.yaml:13:29: a node may take 104858336MiB"), "{rejected}");
}

#[test]
fn a_limit_out_of_its_range_is_told_once_and_not_as_memory_too() {
    let text = RIGHT.replacen("  nodes:", "  limits: { keys_bytes_max: 16777215TiB }\n  nodes:", 1);
    let Rejected(wrong) = settle_on(&text, &Overrides::default(), Some(1 << 30)).unwrap_err();
    assert_eq!(wrong.len(), 1, "{}", Rejected(wrong));
}

#[test]
fn two_sides_on_one_port_are_told_before_they_are_in_each_other_s_way() {
    for (admin, is_taken) in [("127.0.0.1:50051", true), ("127.0.0.1:50053", false), ("[::1]:50051", false)] {
        let settled = settled(&format!("{RIGHT}admin: {{ listen_address: \"{admin}\" }}\n"));
        assert_eq!(settled.is_err(), is_taken, "{admin}");
    }
    let everywhere = RIGHT.replace("plaintext: true", "listen_address: \":50051\"");
    let rejected = settled(&format!("{everywhere}admin: {{ listen_address: \"[::1]:50051\" }}\n")).unwrap_err();
    let says = "dir/config.yaml:13:26: the admin side on [::1]:50051 is in the way of the gRPC side on [::]:50051";
    assert!(rejected.to_string().starts_with(says), "{rejected}");
    let flag = Overrides { admin_listen: Some("127.0.0.1:50051".parse().unwrap()), ..Overrides::default() };
    assert!(settled_with(RIGHT, &flag).unwrap_err().to_string().starts_with("dir/config.yaml: the admin side"));
}

#[test]
fn a_clock_is_accepted_by_a_flag_or_by_the_file() {
    let accepting = RIGHT.replacen("data_dir: data", "data_dir: data\ntiming: { accept_clock: true }", 1);
    let flag = Overrides { accept_clock: true, ..Overrides::default() };
    assert!(!settled(RIGHT).unwrap().accept_clock);
    assert!(settled(&accepting).unwrap().accept_clock);
    let settings = settled_with(RIGHT, &flag).unwrap();
    let row = settings.rows.iter().find(|row| row.key == "timing.accept_clock").unwrap();
    assert!(settings.accept_clock && row.origin == Origin::Flag("--accept-clock"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let wrong: [(&str, &str, &str); 36] = [
        ("an unknown key, one letter off", "data_dir:", "data_dri:"),
        ("a log too short for a snapshot", "data_dir: data", "data_dir: data\nsnapshots: { log_bytes_min: 1KiB }"),
        ("a log cut below what stays", "data_dir: data", "data_dir: data\nsnapshots: { log_bytes_max: 100MiB }"),
        ("a count that is none", "data_dir: data", "data_dir: data\nsnapshots: { trailing_entries: -1 }"),
        ("an unknown key, far from all", "data_dir: data", "data_dir: data\ncolour: red"),
        ("an unknown key deep down", "quantity: 10", "qantity: 10"),
        ("a key twice", "data_dir: data", "data_dir: data\ndata_dir: other"),
        ("a wrong type", "node: 1", "node: one"),
        ("a list where keys belong", "grpc: { plaintext: true }", "grpc: [true]"),
        ("a fraction", "probability: 20", "probability: 0.2"),
        (
            "an item twice",
            "probability: 20 }",
            "probability: 20 }\n    - { item_id: gold, quantity: 1, probability: 1 }",
        ),
        ("a negative weight", "probability: 20", "probability: -20"),
        ("a quantity below -1", "quantity: 10", "quantity: -2"),
        ("a quantity beyond what JSON keeps exact", "quantity: 10", "quantity: 9007199254740992"),
        ("an item id with a control character", "item_id: gold", "item_id: \"go\\tld\""),
        ("a duration without a unit", "data_dir: data", "data_dir: data\ntiming: { tick: 50 }"),
        ("a tick out of range", "data_dir: data", "data_dir: data\ntiming: { tick: 2s }"),
        ("a heartbeat between ticks", "data_dir: data", "data_dir: data\ntiming: { heartbeat: 120ms }"),
        ("an election as short as the heartbeat", "data_dir: data", "data_dir: data\ntiming: { election: 100ms }"),
        ("a decimal size", "  nodes:", "  limits: { keys_bytes_max: 64MB }\n  nodes:"),
        ("a size out of range", "  nodes:", "  limits: { keys_bytes_max: 1B }\n  nodes:"),
        ("not a node of the cluster", "node: 1", "node: 4"),
        ("a node id twice", "id: 2,", "id: 1,"),
        ("a port twice", "50062", "50052"),
        ("no cluster id", "1b4e28ba-2fa1-41d2-883f-0016d3cca427", "my cluster"),
        ("an address without a port", "\"127.0.0.1:50062\"", "127.0.0.1"),
        ("an address to listen on where one to reach belongs", "127.0.0.1:50062", "0.0.0.0:50062"),
        ("plaintext where others listen in", "plaintext: true", "plaintext: true, listen_address: \":50051\""),
        ("a word that plaintext does not know", "plaintext: true", "plaintext: yes"),
        ("an admin side that others reach", "data_dir: data", "data_dir: data\nadmin: { listen_address: \":50053\" }"),
        (
            "an admin side by a name that may stand for any address",
            "grpc: \"127.0.0.1:50051\"",
            "grpc: \"127.0.0.1:50051\", admin: \"node-1.example:50053\"",
        ),
        ("no cluster", &RIGHT[RIGHT.find("cluster:").unwrap()..RIGHT.find("data_dir").unwrap()], ""),
        ("neither a node nor a data directory", "node: 1\n", ""),
        ("several things at once", "node: 1\ncluster:\n  id: 1b", "node: 7\ncluster:\n  id: xy"),
        ("a broken document", "tls: { dir: certs }", "tls: { dir: certs"),
        ("an empty file", RIGHT, ""),
    ];
    let mut golden = String::new();
    for (name, right, instead) in wrong {
        assert!(RIGHT.contains(right), "{name}");
        let text = RIGHT.replacen(right, instead, 1);
        let rejected = settled(&text).expect_err(name);
        writeln!(golden, "--- {name}\n{rejected}\n").unwrap();
    }
    insta::assert_snapshot!(golden);
}

#[test]
fn a_right_file_is_settled_and_paths_are_relative_to_it() {
    let settings = settled(RIGHT).unwrap();
    assert_eq!((settings.node, settings.members.len()), (ReplicaId(1), 2));
    assert_eq!(settings.data_dir, Path::new("dir/data"));
    assert_eq!(settings.tls.key, Path::new("dir/certs/node-1.key"));
    assert_eq!(settings.quic_listen.to_string(), "127.0.0.1:50052");
    let grpc = settings.grpc.unwrap();
    assert_eq!(
        (grpc.listen.to_string().as_str(), grpc.plaintext, grpc.reflection),
        ("127.0.0.1:50051", Plaintext::OnLoopback, false)
    );
    assert_eq!((settings.timing.heartbeat_ticks, settings.timing.election_ticks), (2, 20));
    assert!(settings.warnings.is_empty());
    assert_eq!(settings.admin_listen, None, "it is served where somebody gave it an address, or asked for it");
    let admin = |more: &str| settled(&format!("{RIGHT}{more}")).unwrap().admin_listen.map(|listen| listen.to_string());
    assert_eq!(admin("admin: { enabled: true }").as_deref(), Some("127.0.0.1:50053"));
    assert_eq!(admin("admin: { listen_address: \"[::1]:7\" }").as_deref(), Some("[::1]:7"));
    let addressed = RIGHT.replace("50051\"", "50051\", admin: \"127.0.0.1:9\"");
    assert_eq!(settled(&addressed).unwrap().admin_listen.unwrap().to_string(), "127.0.0.1:9");
    let off = settled(&format!("{addressed}admin: {{ enabled: false }}")).unwrap();
    assert_eq!(off.admin_listen, None);
}

#[test]
fn each_value_says_where_it_is_from_and_a_flag_wins() {
    let overrides = Overrides { data_dir: Some("/elsewhere".into()), node: Some(2), ..Overrides::default() };
    let settings = settled_with(RIGHT, &overrides).unwrap();
    assert_eq!((settings.node, settings.data_dir.as_path()), (ReplicaId(2), Path::new("/elsewhere")));
    let origin = |key: &str| settings.rows.iter().find(|row| row.key == key).unwrap().origin;
    assert_eq!(origin("node"), Origin::Flag("--node"));
    assert_eq!(origin("data_dir"), Origin::Flag("--data-dir"));
    assert_eq!(origin("cluster.id"), Origin::File { line: 3 });
    assert_eq!(origin("grpc.plaintext"), Origin::File { line: 9 });
    assert_eq!(origin("timing.tick"), Origin::Default);
}

#[test]
fn the_predecessors_file_is_one_plaintext_node_with_one_warning() {
    let settings = settled(PREDECESSOR).unwrap();
    assert_eq!(settings.cluster, ClusterSource::MadeIn("dir/./tmp/tombola".into()));
    assert_eq!(settings.data_dir, Path::new("dir/./tmp/tombola/data"));
    let grpc = settings.grpc.unwrap();
    assert_eq!(
        (grpc.listen.to_string().as_str(), grpc.plaintext, grpc.reflection),
        ("[::]:50051", Plaintext::Anywhere, true)
    );
    assert_eq!(settings.quic_listen.to_string(), "127.0.0.1:50052");
    assert_eq!(settings.catalog.len(), 2);
    assert_eq!(settings.catalog[1].stock, Stock::Unlimited);
    assert_eq!(settings.warnings.len(), 1);
    assert!(settings.warnings[0].contains("`wal` has no effect"), "{}", settings.warnings[0]);
    let silent = settled(&PREDECESSOR.replace("enabled: true", "enabled: false")).unwrap();
    assert_eq!(silent.grpc, None);
}

#[test]
fn our_keys_in_the_predecessors_file_are_refused_and_not_left_out() {
    for line in ["node: 1", "data_dir: data", "tls: { dir: certs }"] {
        let rejected = settled(&format!("{PREDECESSOR}{line}\n")).unwrap_err().to_string();
        assert!(rejected.starts_with("dir/config.yaml:18:") && rejected.contains("needs a `cluster`"), "{rejected}");
    }
}

#[test]
fn the_predecessors_keys_beside_ours_are_warned_about() {
    let settings = settled(&format!("{RIGHT}working_dir: tmp\nwal: {{ formatter: json }}\n")).unwrap();
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    assert_eq!(settings.data_dir, Path::new("dir/data"));
}

#[test]
fn catalogs_are_read_from_yaml_and_json_and_everything_else_is_passed_over() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("catalog");
    let read = |text: &str| {
        std::fs::write(&file, text).unwrap();
        read_catalog(&file)
    };
    let sample = sample_catalog();
    assert_eq!(
        (sample[0].item.as_str(), sample[0].stock, sample[5].stock),
        ("diamond", Stock::Finite(100), Stock::Unlimited)
    );
    assert_eq!(read(PREDECESSOR).unwrap().len(), 2);
    let json = "{\n\t\"catalog\": [\n\t\t{ \"item_id\": \"gold\", \"quantity\": 100, \"probability\": 50 }\n\t],\n\t\"other\": null\n}\n";
    assert_eq!(read(json).unwrap().len(), 1);
    assert_eq!(read("catalog:\n  - { item_id: x, quantity: 1, weight: 2 }").unwrap()[0].weight.0, 2);
    for (text, says) in [
        ("colour: red", "holds no catalog"),
        ("catalog: 7", "expected a list"),
        ("catalog: [{ item_id: a, quantity: 1 }]", "the key `probability` is missing"),
        ("catalog: [{ item_id: \"\", quantity: 1, probability: 1 }]", "1 to 64 bytes"),
    ] {
        let rejected = read(text).unwrap_err().to_string();
        assert!(rejected.contains(says), "{text}: {rejected}");
    }
    std::fs::write(&file, b"catalog: \xff\xfe").unwrap();
    assert!(read_catalog(&file).unwrap_err().to_string().contains("not UTF-8 from byte 9 on"));
}

#[test]
fn a_catalog_that_no_log_entry_holds_is_refused() {
    let items = |count: usize| {
        let items: Vec<_> = (0..count)
            .map(|n| format!("  - {{ item_id: item-{n}, quantity: {QUANTITY_MAX}, probability: 4294967295 }}\n"))
            .collect();
        format!("catalog:\n{}", items.concat())
    };
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("catalog.yaml");
    std::fs::write(&file, items(20_000)).unwrap();
    assert_eq!(read_catalog(&file).unwrap().len(), 20_000);
    std::fs::write(&file, items(40_000)).unwrap();
    assert!(read_catalog(&file).unwrap_err().to_string().contains("too large for one log entry"));
}

/// Pieces of YAML, right and wrong, that mean something somewhere.
const PIECES: [&str; 28] = [
    "",
    " ",
    "\n",
    "\t",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "%YAML 9\n",
    "\u{feff}",
    "\0",
    "~",
    "18446744073709551616",
    "-1.5e999",
];

/// A file is settled, or what is wrong is told with the file's name.
fn is_settled_or_rejected(text: &str) -> proptest::test_runner::TestCaseResult {
    for settled in [settled(text).map(drop), settle_on(text, &Overrides::default(), Some(1 << 30)).map(drop)] {
        if let Err(rejected) = settled {
            prop_assert!(rejected.to_string().starts_with("dir/config.yaml"), "{}", rejected);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_file_with_pieces_put_in_and_taken_out_is_settled_or_rejected(
        is_ours: bool,
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..9usize, prop::sample::select(PIECES.to_vec())), 1..6,
        ),
    ) {
        let mut text: Vec<char> = if is_ours { RIGHT } else { PREDECESSOR }.chars().collect();
        for (at, gone, piece) in changes {
            let at = at.index(text.len());
            let end = text.len().min(at + gone);
            drop(text.splice(at..end, piece.chars()));
        }
        is_settled_or_rejected(&String::from_iter(text))?;
    }

    #[test]
    fn any_value_of_any_key_is_settled_or_rejected(line in any::<prop::sample::Index>(), value in any::<String>()) {
        let mut lines: Vec<String> = RIGHT.lines().map(str::to_owned).collect();
        let line = line.get_mut(&mut lines);
        let key = line.split_once(':').expect("every line has a key").0;
        *line = format!("{key}: {value}");
        is_settled_or_rejected(&lines.join("\n"))?;
    }

    #[test]
    fn any_text_is_settled_or_rejected(text in any::<String>()) {
        is_settled_or_rejected(&text)?;
    }
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (before, name) in ('a'..='h').zip('b'..='i') {
        writeln!(text, "{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before}]").unwrap();
    }
    assert!(settled(&text).is_err());
    let deep = format!("node: {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(settled(&deep).is_err());
}
