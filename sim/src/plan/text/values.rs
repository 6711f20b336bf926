//! Values of fields: how each is written as one word, and read again.

use tombola::{
    pool::{ItemId, Stock, Weight},
    types::ReplicaId,
};

use crate::plan::{DiskOperation, Keep, Shape};

/// One word.
pub(super) trait Value: Sized {
    fn write(&self) -> String;
    fn read(word: &str) -> Option<Self>;
}

macro_rules! plain {
    ($($type:ty)*) => {
        $(impl Value for $type {
            fn write(&self) -> String {
                self.to_string()
            }

            fn read(word: &str) -> Option<Self> {
                word.parse().ok()
            }
        })*
    };
}

plain!(u8 u16 u32 u64 i64 usize bool String);

macro_rules! numbered {
    ($($type:ident)*) => {
        $(impl Value for $type {
            fn write(&self) -> String {
                self.0.write()
            }

            fn read(word: &str) -> Option<Self> {
                Value::read(word).map(Self)
            }
        })*
    };
}

numbered!(ReplicaId Weight);

macro_rules! named {
    ($type:ident: $($variant:ident $word:literal)*) => {
        impl Value for $type {
            fn write(&self) -> String {
                match self { $(Self::$variant => $word),* }.to_owned()
            }

            fn read(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

named!(Keep: All "all" Nothing "nothing" Some "some" Torn "torn");
named!(DiskOperation: Read "read" Write "write" SetLen "set_len" Sync "sync");

const UNLIMITED: &str = "unlimited";

/// A stock; without a number it is unlimited.
impl Value for Option<u64> {
    fn write(&self) -> String {
        self.map_or(UNLIMITED.to_owned(), |stock| stock.to_string())
    }

    fn read(word: &str) -> Option<Self> {
        if word == UNLIMITED { Some(None) } else { word.parse().ok().map(Some) }
    }
}

impl Value for Stock {
    fn write(&self) -> String {
        match self {
            Self::Finite(stock) => Some(*stock).write(),
            Self::Unlimited => None.write(),
        }
    }

    fn read(word: &str) -> Option<Self> {
        <Option<u64> as Value>::read(word).map(|stock| stock.map_or(Self::Unlimited, Self::Finite))
    }
}

/// An id may hold spaces and signs that mean something here: these are written as `%` and two hexadecimal digits.
impl Value for ItemId {
    fn write(&self) -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        };
        self.as_str().bytes().map(byte).collect()
    }

    fn read(word: &str) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut rest = word.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'%' => (char::from(rest.next()?).to_digit(16)? * 16 + char::from(rest.next()?).to_digit(16)?) as u8,
                _ => byte,
            });
        }
        String::from_utf8(bytes).ok()?.parse().ok()
    }
}

/// `1,2,3`; nobody is an empty word.
impl Value for Vec<ReplicaId> {
    fn write(&self) -> String {
        let nodes: Vec<String> = self.iter().map(Value::write).collect();
        nodes.join(",")
    }

    fn read(word: &str) -> Option<Self> {
        word.split(',').filter(|_| !word.is_empty()).map(Value::read).collect()
    }
}

/// `groups:1|2,3`, `bridge:2`, `ring`, `flapping:2:150`.
impl Value for Shape {
    fn write(&self) -> String {
        match self {
            Self::Groups(groups) => {
                let groups: Vec<String> = groups.iter().map(Value::write).collect();
                format!("groups:{}", groups.join("|"))
            }
            Self::Bridge(node) => format!("bridge:{node}"),
            Self::Ring => "ring".to_owned(),
            Self::Flapping { node, every_ms } => format!("flapping:{node}:{every_ms}"),
        }
    }

    fn read(word: &str) -> Option<Self> {
        let (name, rest) = word.split_once(':').unwrap_or((word, ""));
        match name {
            "groups" => rest.split('|').map(Value::read).collect::<Option<_>>().map(Self::Groups),
            "bridge" => Value::read(rest).map(Self::Bridge),
            "ring" if name == word => Some(Self::Ring),
            "flapping" => {
                let (node, every_ms) = rest.split_once(':')?;
                Some(Self::Flapping { node: Value::read(node)?, every_ms: Value::read(every_ms)? })
            }
            _ => None,
        }
    }
}
