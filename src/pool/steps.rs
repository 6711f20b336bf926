//! The steps of a draw as they travel: each item id once, and a byte a step.
//!
//! A draw of 100 names the same few items again and again. Its steps are written as the distinct ids in the order of their
//! first appearance, then one code a step: 0 a miss, 1 pool empty, `2 + 2n` the award of id `n`, `3 + 2n` its award as the
//! fallback. Codes are bytes, or `u16` if there are more than [`NARROW_NAMES_MAX`] ids.
//!
//! Nothing is believed of what is read: there are at most as many steps as a command draws, and no more ids; each id is there
//! once, and used, for the first time where the order says. So there is one form for each list of steps. All steps of an id
//! share it.

use std::{fmt, marker::PhantomData};

use rustc_hash::FxHashMap;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use super::{command::DRAWS_PER_COMMAND_MAX, names::ItemId, outcome::Step};

/// Most ids whose codes fit into a byte.
const NARROW_NAMES_MAX: usize = 127;
/// Most ids that are looked for one after the other; those beyond are hashed.
const SCANNED_NAMES_MAX: usize = 16;
/// Most steps, and so most ids.
const LEN_MAX: usize = DRAWS_PER_COMMAND_MAX as usize;
/// Codes of steps without an item; those with one follow.
const MISS: u16 = 0;
const POOL_EMPTY: u16 = 1;
const AWARDED: u16 = 2;
const FALLBACK: u16 = 3;

pub(super) fn serialize<S: Serializer>(steps: &[Step], serializer: S) -> Result<S::Ok, S::Error> {
    let names = Names::of(steps.iter().filter_map(Step::item));
    let mut pair = serializer.serialize_tuple(2)?;
    pair.serialize_element(&names.list)?;
    pair.serialize_element(&Codes { steps, names: &names })?;
    pair.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    deserializer.deserialize_tuple(2, Pair)
}

/// Distinct ids, numbered by their first appearance.
#[derive(Default)]
struct Names<'a> {
    list: Vec<&'a ItemId>,
    /// The numbers of those beyond [`SCANNED_NAMES_MAX`].
    beyond: FxHashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn of(ids: impl Iterator<Item = &'a ItemId>) -> Self {
        let mut names = Self::default();
        for id in ids {
            if names.number(id).is_none() {
                if names.list.len() >= SCANNED_NAMES_MAX {
                    names.beyond.insert(id.as_str(), names.list.len());
                }
                names.list.push(id);
            }
        }
        names
    }

    fn number(&self, id: &ItemId) -> Option<usize> {
        let scanned = &self.list[..self.list.len().min(SCANNED_NAMES_MAX)];
        // The pool shares one name among all steps of an item, which says so without a look at its bytes.
        let shared = scanned.iter().position(|name| name.is_shared_with(id));
        let equal = || scanned.iter().position(|name| *name == id);
        shared.or_else(equal).or_else(|| self.beyond.get(id.as_str()).copied())
    }

    fn code(&self, step: &Step) -> u16 {
        let (kind, id) = match step {
            Step::Awarded(id) => (AWARDED, id),
            Step::Fallback(id) => (FALLBACK, id),
            Step::Miss => return MISS,
            Step::PoolEmpty => return POOL_EMPTY,
        };
        let number = self.number(id).expect("every id of the steps is among their names");
        kind + 2 * u16::try_from(number).expect("a draw has at most a thousand steps")
    }
}

/// A code a step.
struct Codes<'a> {
    steps: &'a [Step],
    names: &'a Names<'a>,
}

impl Serialize for Codes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let codes = self.steps.iter().map(|step| self.names.code(step));
        if self.names.list.len() > NARROW_NAMES_MAX {
            serializer.collect_seq(codes)
        } else {
            serializer.collect_seq(codes.map(|code| code as u8))
        }
    }
}

/// Reads ids and codes.
struct Pair;

impl<'de> Visitor<'de> for Pair {
    type Value = Vec<Step>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ids and codes of a draw's steps")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Vec<Step>, A::Error> {
        let names = pair.next_element_seed(List::of(Ok))?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        if Names::of(names.iter()).list.len() < names.len() {
            return Err(A::Error::custom("an item is named twice"));
        }
        let mut used = 0;
        let mut step = |code: u16| {
            let kind = match code {
                MISS => return Ok(Step::Miss),
                POOL_EMPTY => return Ok(Step::PoolEmpty),
                code if code % 2 == 0 => Step::Awarded,
                _ => Step::Fallback,
            };
            let number = usize::from(code / 2) - 1;
            let id = names.get(number).filter(|_| number <= used).ok_or("a step names an item out of order")?;
            used = used.max(number + 1);
            Ok(kind(id.clone()))
        };
        let steps = if names.len() > NARROW_NAMES_MAX {
            pair.next_element_seed(List::of(&mut step))?
        } else {
            pair.next_element_seed(List::of(|code: u8| step(code.into())))?
        };
        let steps = steps.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        if used == names.len() { Ok(steps) } else { Err(A::Error::custom("an item is named by no step")) }
    }
}

/// Reads a list of at most as many elements as a draw has steps, and makes of each what it means.
struct List<E, F> {
    make: F,
    elements: PhantomData<fn() -> E>,
}

impl<E, F> List<E, F> {
    fn of<T>(make: F) -> Self
    where
        F: FnMut(E) -> Result<T, &'static str>,
    {
        Self { make, elements: PhantomData }
    }
}

impl<'de, E: Deserialize<'de>, T, F: FnMut(E) -> Result<T, &'static str>> DeserializeSeed<'de> for List<E, F> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: Deserialize<'de>, T, F: FnMut(E) -> Result<T, &'static str>> Visitor<'de> for List<E, F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {DRAWS_PER_COMMAND_MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Vec<T>, A::Error> {
        // What is left is known where a length comes first; it is as long as whoever wrote it says.
        let len = elements.size_hint().unwrap_or(0);
        if len > LEN_MAX {
            return Err(A::Error::invalid_length(len, &self));
        }
        let mut list = Vec::with_capacity(len);
        while let Some(element) = elements.next_element()? {
            if list.len() == LEN_MAX {
                return Err(A::Error::invalid_length(LEN_MAX + 1, &self));
            }
            list.push((self.make)(element).map_err(A::Error::custom)?);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec;

    /// Steps in the form in which they travel.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Steps(#[serde(with = "super")] Vec<Step>);

    fn id(number: usize) -> ItemId {
        format!("item {number}").parse().unwrap()
    }

    fn decode(bytes: &[u8]) -> Option<Vec<Step>> {
        codec::decode::<Steps>(bytes, 1 << 20).ok().map(|steps| steps.0)
    }

    /// The bytes of such names and codes, whatever they mean.
    fn made_up(names: &[&str], codes: &[u8]) -> Vec<u8> {
        codec::encode(&(names, codes))
    }

    #[test]
    fn steps_have_golden_bytes() {
        let (mud, gold) = (|| "mud".parse().unwrap(), || "gold".parse().unwrap());
        let steps = [Step::Awarded(mud()), Step::Miss, Step::Fallback(gold()), Step::Awarded(mud()), Step::PoolEmpty];
        let golden = [
            [2, 0, 0, 0, 0, 0, 0, 0].as_slice(), // two ids
            &[3, 0, 0, 0, 0, 0, 0, 0],           // length of the first
            b"mud",                              //
            &[4, 0, 0, 0, 0, 0, 0, 0],           // of the second
            b"gold",                             //
            &[5, 0, 0, 0, 0, 0, 0, 0],           // five steps
            &[2, 0, 5, 2, 1],                    // mud, a miss, gold as the fallback, mud, pool empty
        ];
        assert_eq!(codec::encode(&Steps(steps.to_vec())), golden.concat());
        assert_eq!(decode(&golden.concat()).unwrap(), steps);
    }

    #[test]
    fn a_hundred_draws_of_six_items_take_a_byte_each_and_share_their_names() {
        let steps = Steps((0..100).map(|at| Step::Awarded(id(at % 6))).collect());
        let bytes = codec::encode(&steps);
        assert_eq!(bytes.len(), 8 + 6 * (8 + "item 0".len()) + 8 + 100);
        let read = decode(&bytes).unwrap();
        let text = |at: usize| read[at].item().unwrap().as_str().as_ptr();
        assert!((6..100).all(|at| text(at) == text(at - 6)));
        assert_eq!(read, steps.0);
    }

    #[test]
    fn codes_are_wide_when_there_are_more_ids_than_a_byte_can_tell() {
        for (ids, width) in [(SCANNED_NAMES_MAX + 1, 1), (NARROW_NAMES_MAX, 1), (NARROW_NAMES_MAX + 1, 2), (1_000, 2)] {
            let steps = Steps((0..ids).map(|at| Step::Fallback(id(at))).collect());
            let names: usize = (0..ids).map(|at| 8 + id(at).as_str().len()).sum();
            let bytes = codec::encode(&steps);
            assert_eq!(bytes.len(), 8 + names + 8 + width * ids);
            assert_eq!(decode(&bytes), Some(steps.0));
        }
    }

    #[test]
    fn what_no_steps_are_written_as_is_refused() {
        assert_eq!(decode(&made_up(&["a", "b"], &[2, 4, 3])).unwrap().len(), 3, "this one is");
        assert_eq!(decode(&made_up(&["a"], &[2, 4])), None, "an id that is not there");
        assert_eq!(decode(&made_up(&["a", "b"], &[4, 2])), None, "out of order");
        assert_eq!(decode(&made_up(&["a", "b"], &[2])), None, "an id of no step");
        assert_eq!(decode(&made_up(&["a", "a"], &[2, 4])), None, "an id twice");
        assert_eq!(decode(&made_up(&["a\n"], &[2])), None, "no id");
        assert_eq!(decode(&made_up(&[], &[0; 1_001])), None, "more steps than a command draws");
        assert_eq!(decode(&made_up(&[], &[0; 1_000])).unwrap().len(), 1_000);
        assert_eq!(decode(&[made_up(&[], &[]), vec![0]].concat()), None, "a byte too many");
        let many: Vec<String> = (0..1_001).map(|at| at.to_string()).collect();
        assert_eq!(decode(&codec::encode(&(many, [0u16; 0]))), None, "more ids than a command draws");
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        for len in [1_001, 1 << 40, u64::MAX] {
            assert_eq!(decode(&codec::encode(&len)), None, "ids");
            assert_eq!(decode(&codec::encode(&(0u64, len))), None, "steps");
        }
    }

    fn any_step(ids: usize) -> impl Strategy<Value = Step> {
        let name = move || (0..ids).prop_map(id);
        prop_oneof![
            6 => name().prop_map(Step::Awarded),
            2 => name().prop_map(Step::Fallback),
            1 => Just(Step::Miss),
            1 => Just(Step::PoolEmpty)
        ]
    }

    proptest! {
        #[test]
        fn steps_come_back_as_they_were(
            steps in prop_oneof![Just(1), Just(6), Just(40), Just(700)]
                .prop_flat_map(|ids| prop::collection::vec(any_step(ids), 0..=1_000)),
        ) {
            let bytes = codec::encode(&Steps(steps.clone()));
            prop_assert_eq!(codec::encoded_len(&Steps(steps.clone())), bytes.len());
            prop_assert_eq!(decode(&bytes), Some(steps));
        }

        /// Whatever is read is written as the same bytes: there is one form for each list of steps.
        #[test]
        fn damaged_bytes_are_other_steps_or_none(
            ids in 1..150usize, len in 0..200usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = codec::encode(&Steps((0..len).map(|at| Step::Awarded(id(at % ids))).collect()));
            damage.iter().for_each(|(at, value)| { let at = at.index(bytes.len()); bytes[at] = *value; });
            if let Some(steps) = decode(&bytes) {
                prop_assert_eq!(codec::encode(&Steps(steps)), bytes);
            }
        }
    }
}
