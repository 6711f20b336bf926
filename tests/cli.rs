//! What the command line says to whoever asks it for help, and to whoever gets it wrong: snapshots of the real binary.
//!
//! `TRYCMD=overwrite cargo test --test cli` writes them anew; read the difference before committing it.

#[test]
fn help_and_usage_errors_say_what_they_said() {
    trycmd::TestCases::new()
        // Nobody's cluster, nobody's settings: only what the binary itself knows.
        .env("HOME", "/nonexistent")
        .env("XDG_RUNTIME_DIR", "/nonexistent")
        .env("XDG_STATE_HOME", "/nonexistent")
        .env("TOMBOLA_ENDPOINTS", "")
        .case("tests/cmd/*.trycmd");
}
