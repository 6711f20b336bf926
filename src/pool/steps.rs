//! The steps of a draw, in memory as they travel: each item id once, and a code a step.
//!
//! A draw of 100 names the same few items again and again. So its steps are the distinct ids in the order of their
//! first appearance, then one code a step: 0 a miss, 1 pool empty, `2 + 2n` the award of id `n`, `3 + 2n` its award as the
//! fallback. On the wire codes are bytes, or `u16` if there are more than [`NARROW_NAMES_MAX`] ids.
//!
//! Nothing is believed of what is read: there are at most as many steps as a command draws, and no more ids; each id is there
//! once, and used, for the first time where the order says. So there is one form for each list of steps.

use std::{fmt, hash::Hash, marker::PhantomData};

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
/// Most steps whose codes are written from a small buffer.
const FEW_LEN_MAX: usize = 16;
/// Most steps, and so most ids.
const LEN_MAX: usize = DRAWS_PER_COMMAND_MAX as usize;
/// Codes of steps without an item; those with one follow.
const MISS: u16 = 0;
const POOL_EMPTY: u16 = 1;
const AWARDED: u16 = 2;
const FALLBACK: u16 = 3;

/// The steps of a draw, in order: at most [`DRAWS_PER_COMMAND_MAX`].
#[derive(Clone, PartialEq, Eq)]
pub struct Steps {
    /// Distinct, in the order of their first appearance.
    names: Vec<ItemId>,
    codes: Vec<u16>,
}

impl Steps {
    /// Steps whose items go by something shorter than their ids: by `name`, one each.
    ///
    /// # Panics
    /// If there are more than [`DRAWS_PER_COMMAND_MAX`].
    pub(super) fn named<K: Copy + Eq + Hash>(steps: impl Iterator<Item = Step<K>>, name: impl Fn(K) -> ItemId) -> Self {
        let mut numbers = Numbers::default();
        let codes: Vec<_> = steps.map(|step| code(step.map(|item| numbers.number(item)))).collect();
        assert!(codes.len() <= LEN_MAX, "a command draws at most a thousand times");
        Self { names: numbers.list.into_iter().map(name).collect(), codes }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// Each step.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Step<&ItemId>> {
        self.codes.iter().map(|&code| meaning(code).map(|number| &self.names[number]))
    }

    /// Each item that was awarded, as the fallback or not, and how often.
    pub fn awards(&self) -> impl Iterator<Item = (&ItemId, u64)> {
        let mut units = vec![0; self.names.len()];
        self.codes.iter().filter_map(|&code| meaning(code).into_item()).for_each(|number| units[number] += 1);
        self.names.iter().zip(units)
    }
}

/// # Panics
/// If there are more than [`DRAWS_PER_COMMAND_MAX`].
impl FromIterator<Step> for Steps {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        Self::named(steps.iter().map(Step::as_ref), ItemId::clone)
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn code(step: Step<usize>) -> u16 {
    let (kind, number) = match step {
        Step::Awarded(number) => (AWARDED, number),
        Step::Fallback(number) => (FALLBACK, number),
        Step::Miss => return MISS,
        Step::PoolEmpty => return POOL_EMPTY,
    };
    kind + 2 * u16::try_from(number).expect("a draw has at most a thousand steps")
}

fn meaning(code: u16) -> Step<usize> {
    match code {
        MISS => Step::Miss,
        POOL_EMPTY => Step::PoolEmpty,
        code if code % 2 == 0 => Step::Awarded(usize::from(code / 2) - 1),
        code => Step::Fallback(usize::from(code / 2) - 1),
    }
}

/// Numbers things by their first appearance.
struct Numbers<K> {
    list: Vec<K>,
    /// The numbers of those beyond [`SCANNED_NAMES_MAX`].
    beyond: FxHashMap<K, usize>,
}

impl<K> Default for Numbers<K> {
    fn default() -> Self {
        Self { list: Vec::new(), beyond: FxHashMap::default() }
    }
}

impl<K: Copy + Eq + Hash> Numbers<K> {
    fn number(&mut self, thing: K) -> usize {
        let next = self.list.len();
        let scanned = &self.list[..next.min(SCANNED_NAMES_MAX)];
        if let Some(number) = scanned.iter().position(|known| *known == thing) {
            return number;
        }
        let number = if next < SCANNED_NAMES_MAX { next } else { *self.beyond.entry(thing).or_insert(next) };
        if number == next {
            self.list.push(thing);
        }
        number
    }
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.names)?;
        if self.names.len() > NARROW_NAMES_MAX {
            pair.serialize_element(&self.codes)?;
        } else {
            pair.serialize_element(&Narrow(&self.codes))?;
        }
        pair.end()
    }
}

/// Codes as bytes, all written at once.
struct Narrow<'a>(&'a [u16]);

impl Serialize for Narrow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // To clear room for the longest would take longer than all else, for most.
        let (mut few, mut many);
        let bytes = if self.0.len() <= FEW_LEN_MAX {
            few = [0; FEW_LEN_MAX];
            &mut few[..self.0.len()]
        } else {
            many = [0; LEN_MAX];
            &mut many[..self.0.len()]
        };
        bytes.iter_mut().zip(self.0).for_each(|(byte, &code)| *byte = code as u8);
        serializer.serialize_bytes(bytes)
    }
}

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, Pair)
    }
}

/// Reads ids and codes.
struct Pair;

impl<'de> Visitor<'de> for Pair {
    type Value = Steps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ids and codes of a draw's steps")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Steps, A::Error> {
        let names: Vec<ItemId> =
            pair.next_element_seed(List::new())?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let codes = if names.len() > NARROW_NAMES_MAX {
            pair.next_element_seed(List::new())?
        } else {
            pair.next_element_seed(NarrowList)?
        };
        let steps = Steps { names, codes: codes.ok_or_else(|| A::Error::invalid_length(1, &self))? };
        steps.check().map(|()| steps).map_err(A::Error::custom)
    }
}

impl Steps {
    /// Are they in the one form that there is for them?
    fn check(&self) -> Result<(), &'static str> {
        let mut numbers = Numbers::default();
        if (0..).zip(&self.names).any(|(at, name)| numbers.number(name) != at) {
            return Err("an item is named twice");
        }
        let mut used = 0;
        for number in self.codes.iter().filter_map(|&code| meaning(code).into_item()) {
            if number > used || number >= self.names.len() {
                return Err("a step names an item out of order");
            }
            used = used.max(number + 1);
        }
        if used == self.names.len() { Ok(()) } else { Err("an item is named by no step") }
    }
}

/// Reads a list of at most as many elements as a draw has steps.
struct List<E>(PhantomData<fn() -> E>);

impl<E> List<E> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, E: Deserialize<'de>> DeserializeSeed<'de> for List<E> {
    type Value = Vec<E>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<E>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, E: Deserialize<'de>> Visitor<'de> for List<E> {
    type Value = Vec<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {DRAWS_PER_COMMAND_MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<E>, A::Error> {
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
            list.push(element);
        }
        Ok(list)
    }
}

/// Reads codes that are bytes.
struct NarrowList;

impl<'de> DeserializeSeed<'de> for NarrowList {
    type Value = Vec<u16>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u16>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NarrowList {
    type Value = Vec<u16>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {DRAWS_PER_COMMAND_MAX} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u16>, E> {
        if bytes.len() > LEN_MAX {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(bytes.iter().map(|&code| code.into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec;

    fn id(number: usize) -> ItemId {
        format!("item {number}").parse().unwrap()
    }

    fn decode(bytes: &[u8]) -> Option<Steps> {
        codec::decode(bytes, 1 << 20).ok()
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
        let steps = Steps::from_iter(steps.to_vec());
        assert_eq!(codec::encode(&steps), golden.concat());
        assert_eq!(decode(&golden.concat()).unwrap(), steps);
    }

    #[test]
    fn a_hundred_draws_of_six_items_take_a_byte_each_and_name_each_once() {
        let steps: Steps = (0..100).map(|at| Step::Awarded(id(at % 6))).collect();
        let bytes = codec::encode(&steps);
        assert_eq!(bytes.len(), 8 + 6 * (8 + "item 0".len()) + 8 + 100);
        let read = decode(&bytes).unwrap();
        assert_eq!((read.names.len(), &read), (6, &steps));
        assert!(read.iter().zip(0..).all(|(step, at)| step == Step::Awarded(&id(at % 6))));
    }

    #[test]
    fn codes_are_wide_when_there_are_more_ids_than_a_byte_can_tell() {
        for (ids, width) in [
            (1, 1),
            (FEW_LEN_MAX, 1),
            (FEW_LEN_MAX + 1, 1),
            (SCANNED_NAMES_MAX + 1, 1),
            (NARROW_NAMES_MAX, 1),
            (NARROW_NAMES_MAX + 1, 2),
            (1_000, 2),
        ] {
            let steps: Steps = (0..ids).map(|at| Step::Fallback(id(at))).collect();
            let names: usize = (0..ids).map(|at| 8 + id(at).as_str().len()).sum();
            let bytes = codec::encode(&steps);
            assert_eq!(bytes.len(), 8 + names + 8 + width * ids);
            assert_eq!(decode(&bytes), Some(steps));
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
            let told = Steps::from_iter(steps.clone());
            prop_assert_eq!((told.len(), told.is_empty()), (steps.len(), steps.is_empty()));
            prop_assert!(told.iter().eq(steps.iter().map(Step::as_ref)));
            let bytes = codec::encode(&told);
            prop_assert_eq!(codec::encoded_len(&told), bytes.len());
            prop_assert_eq!(decode(&bytes), Some(told));
        }

        #[test]
        fn awards_are_counted_by_item(steps in prop::collection::vec(any_step(30), 0..=200)) {
            let told = Steps::from_iter(steps.clone());
            for (item, units) in told.awards() {
                prop_assert_eq!(units, steps.iter().filter(|step| step.item() == Some(item)).count() as u64);
            }
            let all: u64 = told.awards().map(|(_, units)| units).sum();
            prop_assert_eq!(all, steps.iter().filter_map(Step::item).count() as u64);
        }

        /// Whatever is read is written as the same bytes: there is one form for each list of steps.
        #[test]
        fn damaged_bytes_are_other_steps_or_none(
            ids in 1..150usize, len in 0..200usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = codec::encode(&(0..len).map(|at| Step::Awarded(id(at % ids))).collect::<Steps>());
            damage.iter().for_each(|(at, value)| { let at = at.index(bytes.len()); bytes[at] = *value; });
            if let Some(steps) = decode(&bytes) {
                prop_assert_eq!(codec::encode(&steps), bytes);
            }
        }
    }
}
