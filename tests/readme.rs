//! The README's transcripts, run as a reader would: every `$ ` line of a `console` block, in order, in one directory, with
//! the cluster that the README has started by then. What differs between two runs (numbers, keys, digests, which item,
//! who leads) is compared by its kind.

#[path = "support/user.rs"]
mod user;

use std::{fs, process::Command};

use rustix::process::Signal;

use user::{Running, User, free_base};

/// A fenced block: its language, and its lines.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some(Block { language: language.to_owned(), lines: Vec::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// What a line is made of, whatever the numbers, keys, items and roles in it.
fn shape(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_hex = bare.len() >= 8 && bare.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        match bare {
            _ if is_hex => "<hex>".to_owned(),
            "diamond" | "gold" | "silver" | "rock" | "mud" | "log" => "<item>".to_owned(),
            "leader" | "follower" if !line.starts_with("leader") => "<role>".to_owned(),
            _ => word.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("#"),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first UUID of a text, if there is one.
fn uuid(text: &str) -> Option<&str> {
    let is_uuid = |word: &&str| word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').find(is_uuid)
}

/// The reader: where they are, what they started, and the last key or id that they were shown.
struct Reader {
    user: User,
    base: u16,
    started: Vec<Running>,
    shown: Option<String>,
    /// What the reader has exported.
    exported: Vec<(String, String)>,
}

impl Reader {
    /// A text of the README as it is here: other ports, and the key or id that was really shown.
    fn here(&self, text: &str) -> String {
        let mut here = text.to_owned();
        for port in 0..30 {
            here = here.replace(&format!(":{}", 50_051 + port), &format!(":{}", self.base + port));
        }
        match (uuid(&here).map(str::to_owned), &self.shown) {
            (Some(theirs), Some(shown)) => here.replace(&theirs, shown),
            _ => here,
        }
    }

    /// Runs a command; its data, unless it stays in the background. What it says beside them, that a busy machine took
    /// several tries, say, is no part of the transcript.
    fn run(&mut self, command: &str) -> Vec<String> {
        let binary = env!("CARGO_BIN_EXE_tombola");
        let line = self.here(command).replace("tombola ", &format!("{binary} "));
        if let Some(variables) = line.strip_prefix("export ") {
            let pairs = variables.split(' ').map(|pair| pair.split_once('=').expect("NAME=VALUE"));
            self.exported.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            return Vec::new();
        }
        let mut shell = Command::new("sh");
        self.user.at_home(shell.current_dir(self.user.home.path()).envs(self.exported.clone()));
        if let Some(background) = line.strip_suffix(" &") {
            self.started.push(Running::start(with_script(shell, &format!("exec {background} --log-format text"))));
            return Vec::new();
        }
        let output = with_script(shell, &line).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {text}{}", String::from_utf8_lossy(&output.stderr));
        if let Some(shown) = uuid(&text) {
            self.shown = Some(shown.to_owned());
        }
        text.lines().map(str::to_owned).collect()
    }
}

fn with_script(mut shell: Command, script: &str) -> Command {
    shell.args(["-c", script]);
    shell
}

#[test]
fn the_transcripts_are_what_happens() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let user = User::new();
    let base = free_base(3);
    let mut reader = Reader { user, base, started: Vec::new(), shown: None, exported: Vec::new() };
    let mut dev = reader.user.start(&["dev", "--grpc-port", &base.to_string()]);
    dev.stdout_until("ready");
    let mut commands = 0;
    for block in blocks(&readme) {
        match block.language.as_str() {
            "yaml" => {
                let name = block.lines[0].strip_prefix("# ").expect("a file's first line names it");
                fs::write(reader.user.path(name), reader.here(&block.lines.join("\n"))).unwrap();
                // From here on the reader starts the nodes by hand, on the same ports.
                dev.signal(Signal::TERM);
                assert!(dev.wait().success());
            }
            "console" => commands += transcript(&mut reader, &block.lines),
            _ => {}
        }
    }
    assert!(commands > 10, "the README shows what it is");
    for mut node in reader.started {
        node.signal(Signal::TERM);
        assert!(node.wait().success());
    }
}

/// Runs a block's commands and compares what they print; says how many they were.
fn transcript(reader: &mut Reader, lines: &[String]) -> usize {
    let mut commands = 0;
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("not a command: {line}"));
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(shape(line));
        }
        let printed = reader.run(command);
        let shapes: Vec<_> = printed.iter().map(|line| shape(line)).collect();
        assert_eq!(shapes, expected, "{command} printed\n{}", printed.join("\n"));
        commands += 1;
    }
    commands
}
