//! The repository's own rules, as a test: what neither rustc nor clippy can hold us to.
//!
//! A rule says what it wants and finds where the tree does not have it; `rules` lists them, each with offenders that it
//! must find, so that no rule goes blind unnoticed. An exception belongs into its rule, with the reason beside it.

mod rules;
mod source;

use std::{fs, path::Path};

use rules::{RULES, made_up};

/// A text file of the repository.
pub struct File {
    /// Path from the root, with slashes.
    path: String,
    text: String,
    /// The text of a Rust file without comments and literals; empty for any other.
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { source::code_of(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }
}

/// Directories that are not ours: version control, builds, packages of other languages.
const SKIPPED: [&str; 3] = [".git", "target", "node_modules"];

/// Reads every text file below `directory`, which is `prefix` from the root.
fn read_tree(directory: &Path, prefix: &str, files: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        } else if kind.is_dir() {
            read_tree(&entry.path(), &format!("{path}/"), files);
        } else if let (true, Ok(text)) = (kind.is_file(), fs::read_to_string(entry.path())) {
            // What is not UTF-8 is no text.
            files.push(File::new(&path, &text));
        }
    }
}

fn tree() -> Vec<File> {
    let mut files = Vec::new();
    read_tree(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut files);
    files
}

#[test]
fn the_tree_keeps_the_rules() {
    let files = tree();
    let mut broken = String::new();
    for rule in RULES {
        for file in &files {
            for (line, found) in (rule.check)(file) {
                broken += &format!("\n{}:{line}: {found}\n    wanted: {}", file.path, rule.wants);
            }
        }
    }
    assert!(broken.is_empty(), "the tree breaks its own rules:{broken}");
}

#[test]
fn every_rule_finds_its_offenders() {
    for rule in RULES {
        assert!(!rule.offenders.is_empty(), "no offender for: {}", rule.wants);
        for (path, text) in rule.offenders {
            let found = (rule.check)(&made_up(path, text));
            assert!(!found.is_empty(), "not found in {path}: {}", rule.wants);
        }
    }
}

#[test]
fn what_only_looks_like_an_offence_is_none() {
    let innocents = [
        (
            "src/pool/a.rs",
            "//! No `tokio::select!`, no std::fs, no todo!() here.\nuse std::fmt;\nlet s = \"rand::rng()\";",
        ),
        ("src/runtime/node.rs", "tokio::select! {\n    biased;\n    _ = a => {}\n}"),
        ("src/runtime/node.rs", "use crate::{replica::raft::Thing, storage::redb};\nlet raft = x.raft::<u8>();"),
        ("src/storage/mod.rs", "use redb::Database;"),
        ("src/replica/raft.rs", "use raft::{RawNode, Storage};\nuse rand_chacha::ChaCha8Rng;"),
        ("src/lib.rs", "#[cfg(not(madsim))]\npub mod cli;"),
        ("tests/a.rs", "#[ignore = \"needs privileges\"]\nfn f() {}"),
        ("src/a.rs", "#[allow(clippy::disallowed_methods, reason = \"the one clock\")]\nfn f() {}"),
        ("proto/gen/long.rs", "fn f() {\nMANY_LINES}\n"),
    ];
    for (path, text) in innocents {
        for rule in RULES {
            assert_eq!((rule.check)(&made_up(path, text)), [], "{path} against: {}", rule.wants);
        }
    }
}

/// What stands between backquotes in a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Is this a place in the tree: a file, a directory, or a function as `FILE.rs::NAME`?
fn is_there(files: &[File], place: &str) -> bool {
    let (path, function) = place.split_once("::").map_or((place, None), |(path, name)| (path, Some(name)));
    let directory = format!("{}/", path.trim_end_matches('/'));
    files.iter().any(|file| match function {
        Some(name) => file.path == path && file.code.contains(&format!("fn {name}(")),
        None => file.path == path || file.path.starts_with(&directory),
    })
}

#[test]
fn what_documents_point_at_is_there() {
    let files = tree();
    let ours = ["src/", "sim/", "tests/", "benches/", "proto/", "docs/"];
    let mut missing = String::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let beside = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for place in quoted(&file.text).filter(|quoted| ours.iter().any(|root| quoted.starts_with(root))) {
            if !is_there(&files, place) && !is_there(&files, &format!("{beside}/{place}")) {
                missing += &format!("\n{}: {place}", file.path);
            }
        }
    }
    assert!(missing.is_empty(), "documents point at what is not there:{missing}");
    assert!(is_there(&files, "tests/tidy/main.rs::is_there") && is_there(&files, "src/pool"));
    assert!(!is_there(&files, "tests/tidy/main.rs::is_not_there") && !is_there(&files, "src/po"));
}

#[test]
fn the_tree_is_looked_at() {
    let files = tree();
    for path in
        ["Cargo.lock", "Cargo.toml", "deny.toml", ".ci/run", "src/lib.rs", "src/pool/mod.rs", "tests/tidy/main.rs"]
    {
        assert!(files.iter().any(|file| file.path == path), "{path}");
    }
}
