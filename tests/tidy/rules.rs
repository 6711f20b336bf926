//! The rules. Each names what to do instead, and comes with an offender that it must find.

use crate::{
    File,
    source::{functions, line_of, paths, words},
};

/// A rule of the repository.
pub struct Rule {
    /// What is wanted.
    pub wants: &'static str,
    /// Where it is not kept: line, and what was found there.
    pub check: fn(&File) -> Vec<(usize, String)>,
    /// Made-up files, path and text, that break it.
    pub offenders: &'static [(&'static str, &'static str)],
}

const FILE_LINES_MAX: usize = 600;
/// A screen is about 60; beyond this no reader has one large enough.
const FUNCTION_LINES_MAX: usize = 80;

/// All of them.
pub const RULES: &[Rule] = &[
    Rule {
        wants: "files of at most 600 lines: split by the state that each part owns",
        check: |file| {
            let lines = file.text.lines().count();
            let exempt =
                ["Cargo.lock", "CHANGELOG.md", "LICENSE-APACHE"].contains(&file.path.as_str()) || file.is_generated();
            if exempt || lines <= FILE_LINES_MAX { vec![] } else { vec![(lines, format!("{lines} lines"))] }
        },
        offenders: &[("src/pool/long.rs", LONG_FILE)],
    },
    Rule {
        wants: "functions that fit a screen: give a part of it a name",
        check: |file| {
            if !file.is_rust() || file.is_generated() {
                return vec![];
            }
            let long = functions(&file.code).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
            long.map(|(line, name, lines)| (line, format!("{name} has {lines} lines"))).collect()
        },
        offenders: &[("src/a.rs", LONG_FILE)],
    },
    Rule {
        wants: "every `select!` to begin with `biased;`: unbiased, it draws random numbers that the simulator cannot replay",
        check: |file| {
            let unbiased = words(&file.code, "select").filter(|at| {
                let Some(rest) = file.code[at + "select".len()..].strip_prefix('!') else { return false };
                let inside = rest.trim_start().trim_start_matches(['{', '(']).trim_start();
                !inside.strip_prefix("biased").is_some_and(|rest| rest.trim_start().starts_with(';'))
            });
            unbiased.map(|at| (line_of(&file.code, at), "select! without biased".into())).collect()
        },
        offenders: &[
            ("src/runtime/node.rs", "tokio::select! {\n    _ = a => {}\n}"),
            ("tests/x.rs", "tokio::select! { a = f() => {} biased; }"),
        ],
    },
    Rule {
        wants: "`cfg(madsim)` only where DESIGN section 1 has it: the same source runs in production and in simulation",
        check: |file| {
            let allowed = ["src/lib.rs", "src/transport/mod.rs", "src/client/mod.rs"].contains(&file.path.as_str());
            if !file.is_product() || allowed { vec![] } else { file.found(words(&file.code, "madsim")) }
        },
        offenders: &[("src/runtime/node.rs", "#[cfg(not(madsim))]\nmod quic;")],
    },
    Rule {
        wants: "no clock, I/O, thread, async runtime or randomness in `pool` and `replica`: time and entropy are their input",
        check: |file| {
            if !file.is_under(&["src/pool/", "src/replica/"]) {
                return vec![];
            }
            let mut found = file.paths_within(&IMPURE);
            found.extend(file.found(words(&file.code, "async")));
            found
        },
        offenders: &[
            ("src/pool/a.rs", "use std::{\n    collections::BTreeMap,\n    time::Instant,\n};"),
            ("src/replica/a.rs", "fn f() { std::fs::read(p); }"),
            ("src/replica/a.rs", "let x = rand::rng();"),
            ("src/replica/a.rs", "use tokio::sync::mpsc;"),
            ("src/pool/a.rs", "async fn f() {}"),
        ],
    },
    Rule {
        wants: "no `todo!`, `unimplemented!` or `dbg!`: what is not built is absent",
        check: |file| {
            let left = ["todo", "unimplemented", "dbg"].into_iter().flat_map(|name| {
                words(&file.code, name).filter(move |at| file.code[at + name.len()..].starts_with('!'))
            });
            file.found(left)
        },
        offenders: &[("src/a.rs", "fn f() { todo!() }"), ("tests/a.rs", "dbg!(1);"), ("src/a.rs", "unimplemented!();")],
    },
    Rule {
        wants: "a reason in every `#[ignore = \"...\"]`",
        check: |file| {
            let bare = file
                .code
                .match_indices("#[ignore")
                .filter(|(at, found)| !file.code[at + found.len()..].trim_start().starts_with('='));
            file.found(bare.map(|(at, _)| at))
        },
        offenders: &[("tests/a.rs", "#[test]\n#[ignore]\nfn f() {}")],
    },
    Rule {
        wants: "a reason where a lint on determinism is lifted: `allow(clippy::disallowed_..., reason = \"...\")`",
        check: |file| {
            let lifted = ["allow", "expect"].into_iter().flat_map(|how| words(&file.code, how)).filter(|&at| {
                let attribute = file.code[at..].find(')').map_or("", |len| &file.code[at..at + len]);
                attribute.contains("clippy::disallowed") && words(attribute, "reason").next().is_none()
            });
            if file.is_product() { file.found(lifted) } else { vec![] }
        },
        offenders: &[("src/a.rs", "#[allow(clippy::disallowed_methods)]\nfn f() {}")],
    },
    Rule {
        wants: "no path of one machine: take it from the environment, a flag or a temporary directory",
        check: |file| file.texts(&["/ho\u{6d}e/", "/roo\u{74}/", "/wor\u{6b}/", "/User\u{73}/", "C:\\User\u{73}"]),
        offenders: &[("README.md", "see /ho\u{6d}e/me/tombola"), ("src/a.rs", "// in /wor\u{6b}/x")],
    },
    Rule {
        wants: "no host of a package registry: clients know theirs by their own configuration",
        check: |file| {
            let hosts =
                ["crates.i\u{6f}", "pypi.or\u{67}", "npmjs.or\u{67}", "debian.or\u{67}", "proxy.golang.or\u{67}"];
            if file.path == "Cargo.lock" { vec![] } else { file.texts(&hosts) }
        },
        offenders: &[
            ("README.md", "https://crates.i\u{6f}/crates/tombola"),
            ("Makefile", "pip -i https://pypi.or\u{67}/simple"),
        ],
    },
    Rule {
        wants: "bincode behind `codec` alone: it sets the limit and refuses trailing bytes",
        check: |file| file.product_paths_outside(&["bincode"], &["src/codec.rs"]),
        offenders: &[("src/transport/frame.rs", "bincode::deserialize(b)"), ("src/a.rs", "use bincode::Options;")],
    },
    Rule {
        wants: "raft-rs behind `replica` alone: nobody else calls it",
        check: |file| file.product_paths_outside(&["raft"], &["src/replica/"]),
        offenders: &[("src/runtime/node.rs", "use raft::RawNode;"), ("src/a.rs", "fn f(e: raft::Error) {}")],
    },
    Rule {
        wants: "redb behind `storage` alone: the rest of the product says WriteSet",
        check: |file| file.product_paths_outside(&["redb"], &["src/storage/"]),
        offenders: &[("src/runtime/persist.rs", "use redb::{Database, StorageBackend};")],
    },
    Rule {
        wants: "quinn behind `transport` and the native protocol's two ends alone",
        check: |file| {
            let client = ["src/client/native", "src/client/link", "src/client/sockets"];
            let ends = [&client[..], &["src/transport/", "src/server/native", "src/server/accept"]].concat();
            file.product_paths_outside(&["quinn"], &ends)
        },
        offenders: &[
            ("src/runtime/node.rs", "quinn::Endpoint::client(a)"),
            ("src/server/grpc.rs", "use quinn::Connection;"),
        ],
    },
    Rule {
        wants: "TLS in which both sides prove who they are: `transport::tls` builds the only configurations",
        check: |file| {
            let one_sided = |path: &str| {
                ["ServerConfig::with_single_cert", "ClientConfig::with_root_certificates"]
                    .iter()
                    .any(|end| path.ends_with(end))
            };
            let lax = ["with_no_client_auth", "with_platform_verifier", "try_with_platform_verifier", "dangerous"];
            if !file.is_product() {
                return vec![];
            }
            let mut found = file.found(lax.into_iter().flat_map(|name| words(&file.code, name)));
            found.extend(paths(&file.code).into_iter().filter(|(_, path)| one_sided(path)));
            found
        },
        offenders: &[
            ("src/transport/tls.rs", "rustls::ClientConfig::builder().with_root_certificates(r).with_no_client_auth()"),
            ("src/transport/quic.rs", "quinn::ServerConfig::with_single_cert(chain, key)"),
            ("src/client/native.rs", "let config = ClientConfig::with_root_certificates(roots);"),
            ("src/client/native.rs", "builder.dangerous().with_custom_certificate_verifier(v)"),
        ],
    },
    Rule {
        wants: "no OpenSSL, no aws-lc, no git dependency in Cargo.lock: ring needs a C compiler and nothing else",
        check: |file| {
            if file.path != "Cargo.lock" {
                return vec![];
            }
            let refused = ["name = \"openssl", "name = \"native-tls\"", "name = \"aws-lc", "source = \"git+"];
            file.texts(&refused)
        },
        offenders: &[
            ("Cargo.lock", "[[package]]\nname = \"openssl-sys\""),
            ("Cargo.lock", "[[package]]\nname = \"aws-lc-rs\""),
            ("Cargo.lock", "[[package]]\nname = \"native-tls\""),
            ("Cargo.lock", "source = \"git+https://example.org/x\""),
        ],
    },
    Rule {
        wants: "a reason and a date of review (`until YYYY-MM-DD`) for every advisory that deny.toml ignores",
        check: |file| {
            let lines = file.text.lines().enumerate().filter(|(_, line)| {
                file.path == "deny.toml"
                    && line.contains("RUSTSEC-")
                    && !(line.contains("reason = ") && line.contains("until 20"))
            });
            lines.map(|(at, line)| (at + 1, line.trim().into())).collect()
        },
        offenders: &[("deny.toml", "ignore = [\n    \"RUSTSEC-2025-0001\",\n]")],
    },
];

/// What `pool` and `replica` must not name.
const IMPURE: [&str; 8] =
    ["tokio", "rand", "std::time", "std::fs", "std::net", "std::thread", "std::process", "std::env"];

/// Stands for more lines than a file may have, in a made-up one: so that no file of the tree is so long.
const MANY_LINES: &str = "MANY_LINES";
const LONG_FILE: &str = "fn f() {\nMANY_LINES}\n";

/// A file that the tree does not have.
pub fn made_up(path: &str, text: &str) -> File {
    File::new(path, &text.replace(MANY_LINES, &"    x();\n".repeat(FILE_LINES_MAX)))
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_product(&self) -> bool {
        self.path.starts_with("src/") && self.is_rust()
    }

    /// Generated code is committed under a directory of that name, and is nobody's to tidy.
    fn is_generated(&self) -> bool {
        self.path.split('/').any(|part| part == "gen")
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// The lines of these positions in the code.
    fn found(&self, positions: impl IntoIterator<Item = usize>) -> Vec<(usize, String)> {
        let line = |at| {
            let number = line_of(&self.code, at);
            (number, self.text.lines().nth(number - 1).unwrap_or_default().trim().to_string())
        };
        positions.into_iter().map(line).collect()
    }

    /// Where one of these texts stands, be it code or not.
    fn texts(&self, texts: &[&str]) -> Vec<(usize, String)> {
        let holds = |line: &str| texts.iter().any(|text| line.contains(text));
        let lines = self.text.lines().enumerate().filter(|(_, line)| holds(line));
        lines.map(|(at, line)| (at + 1, line.trim().to_string())).collect()
    }

    /// Paths that are one of `roots` or lie within it.
    fn paths_within(&self, roots: &[&str]) -> Vec<(usize, String)> {
        let within = |path: &str| {
            roots
                .iter()
                .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
        };
        paths(&self.code).into_iter().filter(|(_, path)| within(path)).collect()
    }

    fn product_paths_outside(&self, roots: &[&str], places: &[&str]) -> Vec<(usize, String)> {
        if !self.is_product() || self.is_under(places) { vec![] } else { self.paths_within(roots) }
    }
}
