//! What becomes of one message: a pure function of the seed, the link, the kind of message, and how many of that kind the
//! link has seen. Payloads hold indexes, times and entropy, so a fate that hung on them would change with every event that
//! is taken out of a plan; and one that hung on the order of calls would change with every other link.

use std::time::Duration;

use super::kind::{Kind, Party};
use crate::{
    chance::{happens, number},
    plan::NetworkOptions,
};

/// The shortest way that anything takes.
pub const DELAY_MIN: Duration = Duration::from_millis(1);

/// A message's name: the `number`-th of its kind on the link, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Who sends it.
    pub from: Party,
    /// Who it is for.
    pub to: Party,
    /// What it is.
    pub kind: Kind,
    /// How many of the kind went before it on the link.
    pub number: u64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// It never arrives.
    pub lost: bool,
    /// How long it is on its way.
    pub delay: Duration,
    /// It was caught in the tail of the delays.
    pub tail: bool,
    /// Chooses the bit that is flipped on the way, if one is.
    pub corrupt: Option<u64>,
    /// A second copy comes so long after it was sent.
    pub copy: Option<Duration>,
}

impl Fate {
    /// What becomes of everything on a link that is healed.
    pub const PROMPT: Self = Self { lost: false, delay: DELAY_MIN, tail: false, corrupt: None, copy: None };

    /// The fate of the message of this name.
    pub fn of(seed: u64, options: &NetworkOptions, name: Name) -> Self {
        let Name { from, to, kind, number: count } = name;
        let named = number(seed, "message", &[from.id(), to.id(), kind as u64, count]);
        let draw = |purpose| number(named, purpose, &[]);
        let hits = |purpose, ppm| ppm > 0 && happens(draw(purpose), ppm);
        let tail = hits("tail", options.tail_ppm);
        let usual = || exponential(draw("delay"), options.delay_ms_mean);
        let copy = || match draw("copy") {
            // Close behind, or whenever.
            soon if soon % 2 == 0 => exponential(soon, options.delay_ms_mean),
            late => uniform(late, options.late_ms_max),
        };
        Self {
            lost: hits("loss", options.loss_ppm),
            delay: if tail { uniform(draw("delay"), options.tail_ms_max) } else { usual() },
            tail,
            corrupt: hits("corrupt", options.corrupt_ppm).then(|| draw("bit")),
            copy: hits("duplicate", options.duplicate_ppm).then(copy),
        }
    }
}

/// May a message overtake another on this link?
pub fn is_reordered(seed: u64, options: &NetworkOptions, from: Party, to: Party) -> bool {
    happens(number(seed, "reorder", &[from.id(), to.id()]), options.reordered_links_ppm)
}

/// Of this mean, at least [`DELAY_MIN`]; the logarithm is that of the next power of two, and straight between them: no floats.
pub fn exponential(number: u64, mean_ms: u32) -> Duration {
    let zeros = number.leading_zeros().min(63);
    let fraction = ((number << zeros) >> 31) & u64::from(u32::MAX);
    // -log2 of the number's place between 0 and 1, times 2^32; its mean is 1.5.
    let log = (u128::from(zeros + 1) << 32) - u128::from(fraction);
    let micros = (log * u128::from(mean_ms) * 2_000 / 3) >> 32;
    Duration::from_micros(micros as u64).max(DELAY_MIN)
}

/// Up to that, at least [`DELAY_MIN`].
pub fn uniform(number: u64, ms_max: u32) -> Duration {
    let micros = (u128::from(number) * u128::from(ms_max) * 1_000) >> 64;
    Duration::from_micros(micros as u64).max(DELAY_MIN)
}

#[cfg(test)]
mod tests {
    use tombola::types::ReplicaId;

    use super::*;

    const OPTIONS: NetworkOptions = NetworkOptions {
        loss_ppm: 100_000,
        delay_ms_mean: 20,
        tail_ppm: 10_000,
        tail_ms_max: 3_000,
        reordered_links_ppm: 500_000,
        duplicate_ppm: 50_000,
        late_ms_max: 30_000,
        corrupt_ppm: 20_000,
        queue_max: 100,
    };

    fn name(from: u64, to: u64, kind: Kind, number: u64) -> Name {
        Name { from: Party::Node(ReplicaId(from)), to: Party::Node(ReplicaId(to)), kind, number }
    }

    fn fates(seed: u64, options: &NetworkOptions, from: u64, to: u64, kind: Kind) -> Vec<Fate> {
        (0..20_000).map(|number| Fate::of(seed, options, name(from, to, kind, number))).collect()
    }

    #[test]
    fn each_fault_comes_as_often_as_asked() {
        let fates = fates(1, &OPTIONS, 1, 2, Kind::Append);
        let count = |is: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count();
        assert!((1_800..2_200).contains(&count(&|fate| fate.lost)));
        assert!((150..260).contains(&count(&|fate| fate.tail)));
        assert!((330..470).contains(&count(&|fate| fate.corrupt.is_some())));
        assert!((880..1_120).contains(&count(&|fate| fate.copy.is_some())));
        assert!(count(&|fate| fate.copy > Some(Duration::from_secs(3))) > 300, "late copies");
        assert!(fates.iter().all(|fate| fate.delay >= DELAY_MIN && fate.delay < Duration::from_secs(3)));
        assert!(count(&|fate| fate.delay > Duration::from_secs(1)) > 80, "a tail beyond elections");
    }

    #[test]
    fn delays_have_their_mean_and_shape() {
        let delays: Vec<_> = (0..100_000).map(|n| exponential(number(3, "delay", &[n]), 20).as_micros()).collect();
        let mean = delays.iter().sum::<u128>() / delays.len() as u128;
        assert!((19_500..20_700).contains(&mean), "{mean}");
        let below_mean = delays.iter().filter(|delay| **delay < 20_000).count();
        // 1 - 1/e is 63 %.
        assert!((61_000..66_000).contains(&below_mean), "{below_mean}");
        assert!(
            exponential(0, 100) < Duration::from_secs(10) && exponential(u64::MAX, 100) == DELAY_MIN.max(uniform(0, 0))
        );
    }

    #[test]
    fn fates_hang_on_their_whole_name_and_on_nothing_else() {
        let all = [(1, 1, 2, Kind::Append), (2, 1, 2, Kind::Append), (1, 2, 1, Kind::Append), (1, 1, 2, Kind::Vote)];
        let all = all.map(|(seed, from, to, kind)| fates(seed, &OPTIONS, from, to, kind));
        for (one, other) in (0..all.len()).flat_map(|one| (0..one).map(move |other| (one, other))) {
            assert_ne!(all[one], all[other]);
        }
        let without = NetworkOptions { corrupt_ppm: 0, duplicate_ppm: 0, ..OPTIONS };
        let fewer = fates(1, &without, 1, 2, Kind::Append);
        let same = |one: &Fate, other: &Fate| (one.lost, one.delay, one.tail) == (other.lost, other.delay, other.tail);
        assert!(all[0].iter().zip(&fewer).all(|(one, other)| same(one, other)), "one fault reshuffles another");
    }

    #[test]
    fn whether_a_link_reorders_is_its_own() {
        let party = |id| Party::Node(ReplicaId(id));
        let count = |ppm| {
            let options = NetworkOptions { reordered_links_ppm: ppm, ..OPTIONS };
            (0..1_000).filter(|id| is_reordered(1, &options, party(*id), party(0))).count()
        };
        assert_eq!((count(0), count(1_000_000)), (0, 1_000));
        assert!((430..570).contains(&count(500_000)));
    }
}
