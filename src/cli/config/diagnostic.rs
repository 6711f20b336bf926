//! What is wrong with a file, where, and what to write instead.
//!
//! The YAML library renders snippets too, but it cannot name the nearest known key, and its words are those of a
//! programmer ("expected i128"); so its errors are taken apart here and said again.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location};

/// Longest configuration or catalog file in bytes: a catalog of the greatest size fits several times.
pub const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most characters of a source line that a message shows.
const LINE_CHARS_MAX: usize = 120;

/// A text file and the name that it was asked for by.
#[derive(Debug)]
pub struct Source {
    /// As the user wrote it.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

impl Source {
    /// Reads a regular text file of at most [`FILE_BYTES_MAX`].
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let wrong = |message: String| Diagnostic { path: path.to_owned(), place: None, message, help: None };
        let file = File::open(path).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong(format!("is longer than {} MiB", FILE_BYTES_MAX >> 20)));
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| wrong(format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())))?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Reads the text as one YAML document; JSON is YAML.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_documents: 1,
                max_nodes: 1_000_000,
                max_events: 2_000_000,
            },
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| self.retold(&error))
    }

    /// A message about a place in the text.
    pub fn diagnostic(&self, at: Location, message: impl Into<String>) -> Diagnostic {
        Diagnostic { path: self.path.clone(), place: self.place(at), message: message.into(), help: None }
    }

    /// A message about the text as a whole.
    pub fn about_all(&self, message: impl Into<String>) -> Diagnostic {
        self.diagnostic(Location::UNKNOWN, message)
    }

    fn place(&self, at: Location) -> Option<Place> {
        let line = usize::try_from(at.line()).ok().filter(|&line| line > 0)?;
        let column = usize::try_from(at.column()).ok()?.max(1);
        let text = self.text.lines().nth(line - 1).unwrap_or_default().trim_end().to_owned();
        let rest = text.chars().count().saturating_sub(column - 1).max(1);
        let length = usize::try_from(at.span().len()).unwrap_or(usize::MAX);
        // A mapping's or a list's span may reach over many lines: a caret at its start is enough.
        let length = if length > rest { 1 } else { length.max(1) };
        Some(Place { line, column, length, text })
    }

    /// The library's error in our words.
    fn retold(&self, error: &Error) -> Diagnostic {
        let error = error.without_snippet();
        let (message, help) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                (format!("unknown key `{field}`"), suggest(field, expected))
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                (format!("`{variant}` is not known here"), suggest(variant, expected))
            }
            Error::SerdeMissingField { field, .. } => (format!("the key `{field}` is missing"), None),
            Error::DuplicateMappingKey { key: Some(key), .. } => (format!("the key `{key}` is given twice"), None),
            Error::Unexpected { expected, .. } => (format!("expected {}", in_words(expected)), None),
            Error::InvalidScalar { ty, .. } => (format!("expected {}", in_words(ty)), None),
            Error::SerdeInvalidType { unexpected, expected, .. } => {
                (format!("expected {}, found {unexpected}", in_words(expected)), None)
            }
            Error::NullIntoString { .. } => ("expected a text, found nothing".into(), None),
            Error::Eof { .. } => ("the file ends too early, or holds nothing".into(), None),
            Error::MultipleDocuments { .. } => ("a second document begins; one file is one document".into(), None),
            Error::Budget { .. } => ("the file is too large, or too deeply nested".into(), None),
            other => {
                let text = other.to_string();
                let line = text.lines().next().unwrap_or_default();
                (line.rsplit_once(" at line ").map_or(line, |(message, _)| message).to_owned(), None)
            }
        };
        let at = error.location().unwrap_or(Location::UNKNOWN);
        Diagnostic { help, ..self.diagnostic(at, message) }
    }
}

/// What the library calls a type, for people.
fn in_words(ty: &str) -> &str {
    match ty {
        "bool" | "boolean" | "a boolean" => "true or false",
        _ if ty.starts_with(['i', 'u']) && ty[1..].parse::<u8>().is_ok() => "a whole number",
        _ if ty.starts_with("integer") => "a whole number",
        "string" | "a string" => "a text",
        "mapping start" | "mapping" => "keys and values",
        "sequence start" | "sequence" => "a list",
        _ if ty.starts_with("struct ") => "keys and values",
        other => other,
    }
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    path: PathBuf,
    place: Option<Place>,
    message: String,
    help: Option<String>,
}

#[derive(Clone, Debug)]
struct Place {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// Characters to underline.
    length: usize,
    /// The whole line.
    text: String,
}

impl Diagnostic {
    /// Says what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: message`, the line, a caret, the help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(Place { line, column, length, text }) = &self.place {
            let margin = " ".repeat(line.to_string().len());
            // A long line is shown from shortly before the place.
            let skipped = if *column > LINE_CHARS_MAX - 20 { column - 20 } else { 0 };
            let shown: String =
                text.chars().skip(skipped).take(LINE_CHARS_MAX).map(|c| if c == '\t' { ' ' } else { c }).collect();
            let carets = "^".repeat((*length).min(LINE_CHARS_MAX));
            let indent = " ".repeat(column - 1 - skipped);
            write!(f, "\n{margin} |\n{line} | {shown}\n{margin} | {indent}{carets}")?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// Everything that was found wrong; nothing was started or changed. Never empty.
#[derive(Clone, Debug)]
pub struct Rejected(pub(super) Vec<Diagnostic>);

impl Rejected {
    /// `value` if nothing is wrong.
    pub fn unless_any<T>(diagnostics: Vec<Diagnostic>, value: T) -> Result<T, Self> {
        if diagnostics.is_empty() { Ok(value) } else { Err(Self(diagnostics)) }
    }
}

impl From<Diagnostic> for Rejected {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, diagnostic) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

/// The nearest known name, or all of them if none is near.
fn suggest(name: &str, known: &[&str]) -> Option<String> {
    let lower = name.to_lowercase();
    let nearest = known.iter().map(|known| (edit_distance(&lower, known), *known)).min()?;
    if nearest.0 <= (name.chars().count() / 3).max(1) {
        Some(format!("did you mean `{}`?", nearest.1))
    } else {
        Some(format!("known here: {}", known.join(", ")))
    }
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours (the restricted form
/// of Damerau's metric; Wagner and Fischer's table with one more row).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in
            [("", "abc", 3), ("node", "node", 0), ("ndoe", "node", 1), ("nodes", "node", 1), ("grcp", "grpc", 1)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_and_all_names_if_none_is_near() {
        assert_eq!(suggest("Data_Dirr", &["data_dir", "node"]).unwrap(), "did you mean `data_dir`?");
        assert_eq!(suggest("colour", &["data_dir", "node"]).unwrap(), "known here: data_dir, node");
    }

    #[test]
    fn a_file_that_is_no_file_is_an_error() {
        assert!(Source::read(Path::new("/")).unwrap_err().to_string().contains("cannot be"));
        assert!(Source::read(Path::new("/no/such/file")).unwrap_err().to_string().contains("cannot be opened"));
        assert!(Source::read(Path::new("/dev/zero")).unwrap_err().to_string().contains("longer than 16 MiB"));
    }
}
