//! What goes to stdout and stderr: tables, JSON, errors.
//!
//! Data goes to stdout, everything else to stderr. A reader that hangs up (`tombola state | head -1`) is no error: what it
//! did not want to read is dropped. Data that cannot be written for another reason goes to stderr, and the command does
//! not end well: a key that nobody read may be worth a draw. Colour only on a terminal, and never with `NO_COLOR`.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::{
    args::Format,
    exit::{CliError, Exit},
};

/// May colour be used on a terminal? `NO_COLOR` (no-color.org): any value but the empty one forbids it.
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One cell of a table: text, or a number, which stands on the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

/// A table with a heading, without lines: what `column -t` would make of it.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<Value>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.into_iter().map(|value| match value {
            Value::Text(text) => Cell::new(text),
            Value::Number(number) => Cell::new(number).set_alignment(CellAlignment::Right),
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Writes a command's data: `text` as a table, or `json` as one document.
pub fn data(format: Format, json: &impl Serialize, text: impl FnOnce() -> String) {
    match format {
        Format::Table => stdout(&text()),
        Format::Json => {
            let json = serde_json::to_string(json).expect("maps with string keys serialize");
            stdout(&(json + "\n"));
        }
    }
}

/// Data could not be written.
static DATA_LOST: AtomicBool = AtomicBool::new(false);

/// Writes to stdout; a reader that hung up is no error.
pub fn stdout(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            DATA_LOST.store(true, Ordering::Relaxed);
            stderr(&format!("error[OUTPUT]: stdout cannot be written: {error}; this was to be there:\n{text}"));
        }
        _ => {}
    }
}

/// How the process ends: not well if its data could not be written.
pub fn exit(exit: Exit) -> Exit {
    if exit == Exit::Ok && DATA_LOST.load(Ordering::Relaxed) { Exit::Other } else { exit }
}

/// Writes a line to stderr: a message to a person. Silent in JSON mode, where stderr carries nothing but an error.
pub fn note(format: Format, text: &str) {
    if format == Format::Table {
        stderr(text);
    }
}

/// Writes a line to stderr, whatever the format: progress, warnings.
pub fn stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes an error to stderr: `error[CODE]: what and why`, then what to do next; or one JSON document.
pub fn error(format: Format, error: &CliError) {
    match format {
        Format::Table => stderr(&error_text(error, io::stderr().is_terminal() && colour_wanted())),
        Format::Json => stderr(&error_json(error).to_string()),
    }
}

fn error_text(error: &CliError, colour: bool) -> String {
    let (on, off) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{on}error[{}]{off}: {}", error.code, error.message);
    for (name, value) in [("hint", error.hint.clone()), ("key", error.key.map(|key| key.to_string()))] {
        if let Some(value) = value {
            text += &format!("\n  {name}: {value}");
        }
    }
    text
}

fn error_json(error: &CliError) -> serde_json::Value {
    serde_json::json!({"error": {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "key": error.key.map(|key| key.to_string()),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> CliError {
        CliError::new(Exit::Unavailable, "NO_LEADER", "no leader was found in time")
            .hint("see `tombola cluster status`")
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        assert_eq!(
            error_text(&failed(), false),
            "error[NO_LEADER]: no leader was found in time\n  hint: see `tombola cluster status`"
        );
        assert!(error_text(&failed(), true).starts_with("\x1b[1;31merror[NO_LEADER]\x1b[0m: "));
    }

    #[test]
    fn a_json_error_has_every_key() {
        let expected = serde_json::json!({"error": {
            "code": "NO_LEADER",
            "message": "no leader was found in time",
            "hint": "see `tombola cluster status`",
            "key": null,
        }});
        assert_eq!(error_json(&failed()), expected);
        let key = "01890a5d-ac96-774b-bcce-b302099a8057";
        let error = failed().key(Some(key.parse().unwrap()));
        assert_eq!(error_json(&error)["error"]["key"], key);
    }

    #[test]
    fn a_table_aligns_numbers_right_and_has_no_trailing_blanks() {
        let rows = [vec![Value::from("gold"), 5.into()], vec!["unobtainium".into(), 1_000.into()]];
        assert_eq!(table(&["item", "left"], rows), "item         left\ngold            5\nunobtainium  1000\n");
    }
}
