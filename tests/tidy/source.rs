//! Rust source as the rules see it: without comments and literals, and with its `use` trees written out.
//!
//! Not a parser. It knows where comments, strings and characters begin and end, and what a path is; that is enough, and it
//! cannot be fooled by a rule's own name in a doc comment.

/// Replaces the content of comments, strings and characters by spaces; lines stay where they are.
pub fn code_of(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest, 1),
            'r' | 'b' | 'c' if !after_word => prefixed_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let taken = if skip == 0 { first.len_utf8() } else { skip };
        let (taken, left) = rest.split_at(taken);
        if skip == 0 {
            code.push_str(taken);
        } else {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = left;
    }
    code
}

/// Length of the comment that `rest` begins with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of the string that `rest` begins with and whose content begins at `from`.
fn string(rest: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest[from..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return from + at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of a string with a prefix (`b"`, `r#"`, `br"`, `c"`), or 0 if `rest` begins with a word.
fn prefixed_string(rest: &str) -> usize {
    let prefix = rest.find(|c: char| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(rest.len());
    let hashes = rest[prefix..].find(|c| c != '#').unwrap_or(0);
    let quote = prefix + hashes;
    if prefix > 2 || !rest[quote..].starts_with('"') {
        return 0;
    }
    if !rest[..prefix].contains('r') {
        return if hashes == 0 { string(rest, quote + 1) } else { 0 };
    }
    let end = format!("\"{}", "#".repeat(hashes));
    rest[quote + 1..].find(&end).map_or(rest.len(), |at| quote + 1 + at + end.len())
}

/// Length of the character literal that `rest` begins with, or 0 if it is a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => rest[3..].find('\'').map_or(rest.len(), |at| 3 + at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Is `c` part of a word?
pub fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands alone in `code`.
pub fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    code.match_indices(word)
        .filter(move |(at, _)| !code[..*at].ends_with(in_word) && !code[at + word.len()..].starts_with(in_word))
        .map(|(at, _)| at)
}

/// The line, counted from 1, of a position.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Every path in `code` with its line: those of `use` trees written out (`std::{fs, io::Read}` is `std::fs` and
/// `std::io::Read`), then those that begin with a word and `::` elsewhere.
pub fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut elsewhere = code.to_string();
    for at in words(code, "use") {
        let Some(end) = code[at..].find(';').map(|len| at + len) else { continue };
        expand("", &code[at + 3..end], line_of(code, at), &mut found);
        let blank: String = code[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        elsewhere.replace_range(at..end, &blank);
    }
    for (at, _) in elsewhere.match_indices("::") {
        let start = elsewhere[..at].rfind(|c| !in_word(c)).map_or(0, |before| before + 1);
        // After a point it is a method, after `::` the rest of a path that began earlier.
        let begins = start < at && !elsewhere[..start].ends_with(['.', ':']);
        if begins {
            let len = elsewhere[start..].find(|c| !in_word(c) && c != ':').unwrap_or(elsewhere.len() - start);
            found.push((line_of(&elsewhere, start), elsewhere[start..start + len].to_string()));
        }
    }
    found
}

/// Writes out one `use` tree that stands at `line` below `prefix`.
fn expand(prefix: &str, tree: &str, line: usize, found: &mut Vec<(usize, String)>) {
    let begin = tree.len() - tree.trim_start().len();
    let (tree, line) = (tree.trim(), line + tree[..begin].matches('\n').count());
    match tree.find('{') {
        None if tree.is_empty() => {}
        None => {
            let path = tree.split_whitespace().next().unwrap_or_default();
            found.push((line, format!("{prefix}{path}")));
        }
        Some(open) => {
            let prefix = format!("{prefix}{}", tree[..open].trim());
            let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap_or_default();
            let (mut depth, mut start) = (0, 0);
            let line = line + tree[..open].matches('\n').count();
            for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        expand(&prefix, &inner[start..at], line + inner[..start].matches('\n').count(), found);
                        start = (at + 1).min(inner.len());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The functions in `code`: line, name, and number of lines from the brace that opens the body to the one that closes it.
pub fn functions(code: &str) -> Vec<(usize, String, usize)> {
    words(code, "fn")
        .filter_map(|at| {
            let name: String = code[at + 2..].trim_start().chars().take_while(|&c| in_word(c)).collect();
            // Without a name it is a type; without a brace before the semicolon it has no body.
            let from = at + 2;
            let open = from + body_of(&code[from..])?;
            let close = open + closing(&code[open..])?;
            let lines = line_of(code, close) - line_of(code, open) + 1;
            (!name.is_empty()).then(|| (line_of(code, at), name, lines))
        })
        .collect()
}

/// Where the body's brace is in what follows `fn`.
fn body_of(signature: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in signature.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the brace that `block` begins with is closed.
fn closing(block: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in block.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[test]
fn comments_and_literals_are_blanked() {
    let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j\" k\"# l b\"m\" 'n' '\\'' 'o: &'p str br\"q\" rest";
    let code = code_of(text);
    let left: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(left, ["a", "e", "i", "l", "'o:", "&'p", "str", "rest"]);
    assert_eq!(code.matches('\n').count(), 1);
}

#[test]
fn use_trees_are_written_out() {
    let code =
        "pub use a;\nuse std::{\n    fs,\n    io::{self, Read as R},\n    time::*,\n};\nlet x = b::c::d(crate::e::f);";
    let expected = [
        (1, "a"),
        (3, "std::fs"),
        (4, "std::io::self"),
        (4, "std::io::Read"),
        (5, "std::time::*"),
        (7, "b::c::d"),
        (7, "crate::e::f"),
    ];
    assert_eq!(paths(code), expected.map(|(line, path)| (line, path.to_string())));
}

#[test]
fn functions_are_measured() {
    let code =
        "trait T { fn none(&self); }\nfn one() {}\nfn three(f: fn(u8) -> [u8; 2]) -> u8\nwhere u8: Copy {\n  { }\n}";
    assert_eq!(functions(code), [(2, "one".to_string(), 1), (3, "three".to_string(), 3)]);
}
