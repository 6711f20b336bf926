//! A line of words: groups of a name and its fields.

use std::fmt;

use super::values::Value;

/// A group to be written.
pub(super) struct Group {
    name: &'static str,
    fields: Vec<(&'static str, String)>,
}

impl Group {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    pub(super) fn with(mut self, key: &'static str, value: &impl Value) -> Self {
        self.fields.push((key, value.write()));
        self
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.fields.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

/// A group that was read; its fields are taken one by one.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) name: String,
    fields: Vec<(String, String)>,
}

/// The groups of a line; none if it is blank.
pub(super) fn groups(line: &str) -> Result<Vec<Taken>, String> {
    let mut groups: Vec<Taken> = Vec::new();
    for word in line.split_whitespace() {
        match (word.split_once('='), groups.last_mut()) {
            (None, _) => groups.push(Taken { name: word.to_owned(), fields: Vec::new() }),
            (Some((key, value)), Some(group)) => group.fields.push((key.to_owned(), value.to_owned())),
            (Some(_), None) => return Err(format!("{word:?} belongs to nothing")),
        }
    }
    Ok(groups)
}

impl Taken {
    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == key)
    }

    /// A field's value, for good.
    pub(super) fn take<T: Value>(&mut self, key: &str) -> Result<T, String> {
        let place = self.fields.iter().position(|(name, _)| name == key);
        let place = place.ok_or_else(|| format!("{} has no {key}", self.name))?;
        let (_, value) = self.fields.remove(place);
        T::read(&value).ok_or_else(|| format!("{key} of {} cannot be {value:?}", self.name))
    }

    /// Nothing is left.
    pub(super) fn end(self) -> Result<(), String> {
        match self.fields.first() {
            Some((key, _)) => Err(format!("{} takes no {key}", self.name)),
            None => Ok(()),
        }
    }
}
