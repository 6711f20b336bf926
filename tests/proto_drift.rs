//! The generated gRPC code is committed, so that nobody needs a protobuf compiler to build; this test compiles the
//! protos again, in Rust alone, and fails if what is committed differs. `TOMBOLA_BLESS=1 cargo test --test proto_drift`
//! rewrites it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One directory of generated code.
struct Generated {
    /// Where it is committed, from the root of the repository.
    directory: &'static str,
    /// Root of the protos.
    include: &'static str,
    /// The protos, from that root.
    protos: &'static [&'static str],
    /// Name of the file descriptor set among the generated files, for reflection.
    descriptors: Option<&'static str>,
    /// Generate servers, too.
    server: bool,
}

const PRODUCT: Generated = Generated {
    directory: "proto/gen",
    include: "proto",
    protos: &["rewardpool.proto", "tombola/v1/tombola.proto"],
    descriptors: Some("descriptors.bin"),
    server: true,
};

const OLD_CLIENT: Generated = Generated {
    directory: "tests/gen",
    include: "tests",
    protos: &["upstream.proto"],
    descriptors: None,
    server: false,
};

/// Generates into `out`.
fn generate(what: &Generated, out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join(what.include)]).expect("the include directory is there");
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(what.protos).expect("the protos compile");
    tonic_prost_build::configure()
        .out_dir(out)
        .build_server(what.server)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())
        .expect("code can be generated");
    if let Some(name) = what.descriptors {
        fs::write(out.join(name), compiler.encode_file_descriptor_set()).expect("the directory is writable");
    }
}

/// Every file of a directory, by name; none if there is no directory.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeMap::new() };
    entries
        .map(|entry| entry.expect("the directory is readable").path())
        .map(|path| (path.file_name().expect("an entry has a name").into(), fs::read(&path).expect("it is a file")))
        .collect()
}

fn check(what: &Generated) {
    let fresh = tempfile::tempdir().expect("a temporary directory can be made");
    generate(what, fresh.path());
    let fresh = files(fresh.path());
    assert!(!fresh.is_empty(), "nothing was generated");
    let committed_at = Path::new(env!("CARGO_MANIFEST_DIR")).join(what.directory);
    if std::env::var_os("TOMBOLA_BLESS").is_some() {
        fs::create_dir_all(&committed_at).expect("the repository is writable");
        for (name, bytes) in &fresh {
            fs::write(committed_at.join(name), bytes).expect("the repository is writable");
        }
    }
    let committed = files(&committed_at);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&fresh), "{} does not hold the files that are generated", what.directory);
    for (name, bytes) in &fresh {
        assert!(
            committed[name] == *bytes,
            "{}/{} is not what the protos give: run `TOMBOLA_BLESS=1 cargo test --test proto_drift` and commit",
            what.directory,
            name.display()
        );
    }
}

#[test]
fn the_committed_code_is_what_the_protos_give() {
    check(&PRODUCT);
}

#[test]
fn the_old_clients_code_is_what_its_proto_gives() {
    check(&OLD_CLIENT);
}
