//! A batch as a log entry's bytes, written and read in place.
//!
//! The bytes are those of [`crate::codec`], and tests hold them to it. But an entry has thousands of commands, and the codec
//! takes a key apart into sixteen numbers and makes a string of every name: so draws and claims are read here, field by
//! field, and neighbours of the same name share it. Whatever else there is, and whatever is wrong, is the codec's to judge.

use std::str::FromStr;

use super::{
    command::{Action, BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, Batch, Command, KeyOrigin},
    names::{Actor, ItemId, PoolId, RequestKey},
};
use crate::{
    codec,
    types::{Entropy, Millis},
};

/// Bytes of a batch before its commands.
const HEAD_BYTES: usize = 50;
/// Bytes of a length, and of the number of a variant.
const LEN_BYTES: usize = 8;
const KIND_BYTES: usize = 4;
/// A command without its names; most have one of a few bytes.
const COMMAND_BYTES: usize = 64;

/// The bytes that [`codec::encode`] gives.
pub(super) fn write(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + COMMAND_BYTES * batch.commands.len());
    out.extend_from_slice(&batch.version.to_le_bytes());
    out.extend_from_slice(&batch.time.0.to_le_bytes());
    out.extend_from_slice(&batch.entropy.0);
    write_len(batch.commands.len(), &mut out);
    batch.commands.iter().for_each(|command| write_command(command, &mut out));
    out
}

fn write_command(command: &Command, out: &mut Vec<u8>) {
    write_text(command.pool.as_str(), out);
    out.extend_from_slice(command.key.as_bytes());
    out.extend_from_slice(&(command.origin as u32).to_le_bytes());
    write_text(command.actor.as_str(), out);
    match command.action {
        Action::Draw { count } => {
            let [low, high] = count.to_le_bytes();
            out.extend_from_slice(&[0, 0, 0, 0, low, high]);
        }
        ref other => codec::encode_into(other, out),
    }
}

/// How many bytes [`codec::encode`] gives for a command.
pub(super) fn command_len(command: &Command) -> usize {
    let names = 2 * LEN_BYTES + command.pool.as_str().len() + command.actor.as_str().len();
    names
        + command.key.as_bytes().len()
        + KIND_BYTES
        + match &command.action {
            Action::Draw { count } => KIND_BYTES + size_of_val(count),
            other => codec::encoded_len(other),
        }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_len(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn write_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u64).to_le_bytes());
}

/// A batch of draws and claims; `None` if the bytes are anything else, which may well be a batch.
pub(super) fn read(bytes: &[u8]) -> Option<Batch> {
    let mut reader = Reader { rest: bytes };
    let version = u16::from_le_bytes(reader.array()?);
    let time = Millis(u64::from_le_bytes(reader.array()?));
    let entropy = Entropy(reader.array()?);
    let len = reader.len()?;
    if bytes.len() > BATCH_BYTES_MAX || len > BATCH_COMMANDS_MAX {
        return None;
    }
    let mut commands = Vec::with_capacity(len);
    for _ in 0..len {
        let command = reader.command(commands.last())?;
        commands.push(command);
    }
    reader.rest.is_empty().then_some(Batch { version, time, entropy, commands })
}

/// What is not read yet.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn len(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).ok()
    }

    /// A name: the one given, if it is that.
    fn name<T: FromStr + Clone + AsRef<str>>(&mut self, last: Option<&T>) -> Option<T> {
        let len = self.len()?;
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        match last.filter(|last| last.as_ref().as_bytes() == text) {
            Some(last) => Some(last.clone()),
            None => str::from_utf8(text).ok()?.parse().ok(),
        }
    }

    fn command(&mut self, last: Option<&Command>) -> Option<Command> {
        let pool: PoolId = self.name(last.map(|last| &last.pool))?;
        let key = RequestKey::try_from(self.array::<16>()?).ok()?;
        let origin = match self.number()? {
            0 => KeyOrigin::Caller,
            1 => KeyOrigin::Server,
            _ => return None,
        };
        let actor: Actor = self.name(last.map(|last| &last.actor))?;
        let action = match self.number()? {
            0 => Action::Draw { count: u16::from_le_bytes(self.array()?) },
            1 => {
                let last: Option<&ItemId> = last.and_then(|last| match &last.action {
                    Action::Claim { item, .. } => Some(item),
                    _ => None,
                });
                Action::Claim { item: self.name(last)?, quantity: self.number()? }
            }
            _ => return None,
        };
        Some(Command { pool, key, origin, actor, action })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_command() -> impl Strategy<Value = Command> {
        let item = prop_oneof![Just("gold"), Just("mud"), Just("ä")].prop_map(|item| item.parse().unwrap());
        let action = prop_oneof![
            6 => any::<u16>().prop_map(|count| Action::Draw { count }),
            3 => (item, any::<u32>()).prop_map(|(item, quantity)| Action::Claim { item, quantity }),
        ];
        let pool = prop_oneof![Just("default"), Just("kiosk")].prop_map(|pool| pool.parse().unwrap());
        let actor = prop_oneof![Just(""), Just("ann"), Just("é")].prop_map(|actor| actor.parse().unwrap());
        let origin = prop_oneof![Just(KeyOrigin::Caller), Just(KeyOrigin::Server)];
        (pool, any::<[u8; 10]>(), any::<u64>(), origin, actor, action).prop_map(
            |(pool, entropy, at, origin, actor, action)| Command {
                pool,
                key: RequestKey::new(Millis(at), entropy),
                origin,
                actor,
                action,
            },
        )
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let commands = prop::collection::vec(any_command(), 0..12);
        (any::<u16>(), any::<u64>(), any::<[u8; 32]>(), commands).prop_map(|(version, time, entropy, commands)| Batch {
            version,
            time: Millis(time),
            entropy: Entropy(entropy),
            commands,
        })
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_codec(mut batch in any_batch(), is_mixed: bool) {
            prop_assert_eq!(read(&codec::encode(&batch)), Some(batch.clone()));
            if is_mixed && let Some(command) = batch.commands.first_mut() {
                command.action = Action::PausePool;
                prop_assert_eq!(read(&codec::encode(&batch)), None);
            }
            prop_assert_eq!(write(&batch), codec::encode(&batch));
            for command in &batch.commands {
                prop_assert_eq!(command_len(command), codec::encoded_len(command));
            }
        }

        #[test]
        fn damaged_bytes_are_what_the_codec_says_or_left_to_it(
            batch in any_batch(), cut in any::<prop::sample::Index>(), is_cut: bool,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = write(&batch);
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Some(read) = read(&bytes) {
                prop_assert_eq!(codec::decode::<Batch>(&bytes, BATCH_BYTES_MAX).ok(), Some(read));
            }
        }
    }

    #[test]
    fn a_run_of_commands_shares_its_names() {
        let key = RequestKey::new(Millis(1), [0; 10]);
        let action = Action::Draw { count: 1 };
        let pool = PoolId::default_pool;
        let command = Command { pool: pool(), key, origin: KeyOrigin::Caller, actor: "ann".parse().unwrap(), action };
        let batch = Batch { version: 1, time: Millis(1), entropy: Entropy([0; 32]), commands: vec![command; 2] };
        let commands = read(&write(&batch)).unwrap().commands;
        assert!(std::ptr::eq(commands[0].pool.as_str(), commands[1].pool.as_str()));
        assert!(std::ptr::eq(commands[0].actor.as_str(), commands[1].actor.as_str()));
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        let empty = Batch { version: 1, time: Millis(1), entropy: Entropy([0; 32]), commands: Vec::new() };
        let mut bytes = write(&empty);
        bytes[HEAD_BYTES - 8..].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(read(&bytes), None);
    }
}
