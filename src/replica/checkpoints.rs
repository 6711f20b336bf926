//! Digests compared between replicas (semantics.md, section 1): whoever differs from a majority stops.
//!
//! At every so many entries each replica tells its peers where it stands, and keeps the newest few of its own and of theirs.
//! One that finds that no majority can be with it stops at once: it is the one that is wrong, or nobody can say who is. One
//! that finds a difference while too few have spoken waits a while for the others, and then stops too: when in doubt,
//! stopping is better than a wrong answer. Silence alone is no doubt, and stops nobody.
//!
//! What is told may be lost, so the newest is told again now and then. A difference is never lost: histories are chained, so
//! replicas that parted once differ at every checkpoint after.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
};

use super::BrokenInvariant;
use crate::{
    pool::Digests,
    types::{Index, ReplicaId},
};

/// How often digests are compared, in entries.
pub const CHECKPOINT_EVERY: u64 = 1_024;
/// How many checkpoints are kept of each replica.
const KEPT_MAX: usize = 8;
/// How long others are waited for when some differ, in shortest election timeouts: 10 s as these are set in production.
const DOUBT_ELECTIONS_MAX: usize = 10;

/// The digests at an index, as a replica tells its peers: whoever differs from a majority stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Checkpoint(pub Digests);

/// What the voters say of one index means for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// A majority is with it.
    Agreed,
    /// Nobody differs, of those who have spoken.
    Unheard,
    /// Some differ, and a majority may yet be with it.
    Doubtful,
    /// No majority is with it, whatever the others say.
    Wrong,
}

/// Judges `me`, one of `voters` voters, by what they say of one index.
fn judge(me: ReplicaId, said: &BTreeMap<ReplicaId, Digests>, voters: usize) -> Verdict {
    let with_me = said.values().filter(|digests| **digests == said[&me]).count();
    let silent = voters - said.len();
    let majority = voters / 2 + 1;
    match () {
        () if with_me >= majority => Verdict::Agreed,
        () if with_me + silent < majority => Verdict::Wrong,
        () if with_me == said.len() => Verdict::Unheard,
        () => Verdict::Doubtful,
    }
}

/// A difference that is not settled.
#[derive(Debug)]
struct Doubt {
    /// Where it was first seen.
    index: Index,
    /// How much longer the others are waited for.
    ticks_left: usize,
}

/// The newest checkpoints, by who says so.
#[derive(Debug)]
pub(super) struct Checkpoints {
    me: ReplicaId,
    /// An index is a checkpoint if it is a multiple of this.
    every: u64,
    /// The shortest election timeout.
    election_ticks: usize,
    /// Ticks until the newest is told again.
    retell_ticks: usize,
    /// In the order in which they came, of every replica, this one too.
    said: BTreeMap<ReplicaId, VecDeque<Digests>>,
    doubt: Option<Doubt>,
}

impl Checkpoints {
    /// Nobody has said anything.
    pub fn new(me: ReplicaId, every: u64, election_ticks: usize) -> Self {
        Self { me, every, election_ticks, retell_ticks: election_ticks, said: BTreeMap::new(), doubt: None }
    }

    /// Is there a checkpoint at this index?
    pub fn is_at(&self, index: Index) -> bool {
        index.0.is_multiple_of(self.every)
    }

    /// This replica came to one: it is to be told.
    pub fn applied(&mut self, digests: Digests, voters: &[ReplicaId]) -> Result<Checkpoint, BrokenInvariant> {
        self.note(self.me, digests);
        self.retell_ticks = self.election_ticks;
        self.compare(digests.index, voters)?;
        Ok(Checkpoint(digests))
    }

    /// A peer told one. Only voters count.
    pub fn heard(
        &mut self,
        from: ReplicaId,
        Checkpoint(digests): Checkpoint,
        voters: &[ReplicaId],
    ) -> Result<(), BrokenInvariant> {
        if from == self.me || !voters.contains(&from) {
            return Ok(());
        }
        self.note(from, digests);
        self.compare(digests.index, voters)
    }

    /// A tick has passed: perhaps there is one to tell again.
    pub fn tick(&mut self, voters: &[ReplicaId]) -> Result<Option<Checkpoint>, BrokenInvariant> {
        if let Some(doubt) = &mut self.doubt {
            doubt.ticks_left -= 1;
            if doubt.ticks_left == 0 {
                let index = doubt.index;
                return Err(self.broken(index, voters, "and too few of the others have spoken for too long"));
            }
        }
        self.retell_ticks -= 1;
        if self.retell_ticks > 0 {
            return Ok(None);
        }
        self.retell_ticks = self.election_ticks;
        Ok(self.said.get(&self.me).and_then(VecDeque::back).copied().map(Checkpoint))
    }

    /// This replica goes on from a peer's snapshot: what it said before was of another state.
    pub fn restored(&mut self) {
        self.said.remove(&self.me);
        self.doubt = None;
    }

    fn note(&mut self, who: ReplicaId, digests: Digests) {
        let said = self.said.entry(who).or_default();
        if let Some(same) = said.iter_mut().find(|same| same.index == digests.index) {
            *same = digests;
            return;
        }
        if said.len() == KEPT_MAX {
            said.pop_front();
        }
        said.push_back(digests);
    }

    /// What each voter says of an index.
    fn said_of(&self, index: Index, voters: &[ReplicaId]) -> BTreeMap<ReplicaId, Digests> {
        let voters = voters.iter().filter_map(|voter| Some((*voter, self.said.get(voter)?)));
        voters.filter_map(|(voter, said)| Some((voter, *said.iter().find(|digests| digests.index == index)?))).collect()
    }

    fn compare(&mut self, index: Index, voters: &[ReplicaId]) -> Result<(), BrokenInvariant> {
        let said = self.said_of(index, voters);
        if !said.contains_key(&self.me) {
            return Ok(());
        }
        match judge(self.me, &said, voters.len()) {
            // What a majority has now holds all that came before.
            Verdict::Agreed => _ = self.doubt.take_if(|doubt| doubt.index <= index),
            Verdict::Unheard => {}
            Verdict::Doubtful => {
                let ticks_left = DOUBT_ELECTIONS_MAX * self.election_ticks;
                self.doubt.get_or_insert(Doubt { index, ticks_left });
            }
            Verdict::Wrong => return Err(self.broken(index, voters, "and no majority is with it")),
        }
        Ok(())
    }

    fn broken(&self, index: Index, voters: &[ReplicaId], why: &str) -> BrokenInvariant {
        let mut detail = format!("at entry {index} replica {} differs from others, {why}", self.me);
        for (who, Digests { history, state, .. }) in self.said_of(index, voters) {
            write!(detail, "; replica {who} has history {history} and state {state}").expect("a string takes anything");
        }
        BrokenInvariant { name: "one history", detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{HistoryDigest, StateDigest};

    const ELECTION_TICKS: usize = 20;

    fn digests(index: u64, history: u8, state: u128) -> Digests {
        Digests { index: Index(index), history: HistoryDigest([history; 32]), state: StateDigest(state) }
    }

    /// What replica 1 makes of these votes: its own first, one for each voter, 0 for silence.
    fn verdict(votes: &[u8]) -> Verdict {
        let said = (1..).zip(votes).filter(|(_, vote)| **vote > 0);
        let said = said.map(|(id, vote)| (ReplicaId(id), digests(8, *vote, 0))).collect();
        judge(ReplicaId(1), &said, votes.len())
    }

    #[test]
    fn whoever_has_no_majority_is_wrong_and_whoever_may_have_one_waits() {
        use Verdict::*;
        let cases: &[(&[u8], Verdict)] = &[
            (&[1], Agreed),
            (&[1, 0], Unheard),
            (&[1, 1], Agreed),
            (&[1, 2], Wrong),
            (&[1, 0, 0], Unheard),
            (&[1, 1, 0], Agreed),
            (&[1, 2, 0], Doubtful),
            (&[1, 1, 2], Agreed),
            (&[2, 1, 1], Wrong),
            (&[1, 2, 3], Wrong),
            (&[1, 1, 0, 0], Unheard),
            (&[1, 2, 0, 0], Doubtful),
            (&[1, 1, 2, 0], Doubtful),
            (&[2, 1, 1, 0], Wrong),
            (&[1, 1, 2, 2], Wrong),
            (&[1, 1, 1, 2], Agreed),
            (&[1, 1, 0, 0, 0], Unheard),
            (&[1, 2, 0, 0, 0], Doubtful),
            (&[1, 2, 3, 0, 0], Doubtful),
            (&[1, 2, 2, 0, 0], Doubtful),
            (&[1, 2, 3, 4, 0], Wrong),
            (&[1, 1, 2, 2, 0], Doubtful),
            (&[1, 1, 2, 2, 3], Wrong),
            (&[1, 1, 1, 2, 2], Agreed),
            (&[2, 2, 1, 1, 1], Wrong),
        ];
        for (votes, expected) in cases {
            assert_eq!(verdict(votes), *expected, "{votes:?}");
        }
    }

    /// All splits of 1 to 5 voters into up to three groups, all having spoken: a majority goes on and nobody else.
    #[test]
    fn when_all_have_spoken_exactly_a_majority_goes_on() {
        for voters in 1..=5u32 {
            for split in 0..3u32.pow(voters) {
                let votes: Vec<_> = (0..voters).map(|voter| 1 + (split / 3u32.pow(voter) % 3) as u8).collect();
                for me in 0..voters as usize {
                    let mut mine_first = votes.clone();
                    mine_first.swap(0, me);
                    let with_me = votes.iter().filter(|vote| **vote == votes[me]).count();
                    let expected = if 2 * with_me > votes.len() { Verdict::Agreed } else { Verdict::Wrong };
                    assert_eq!(verdict(&mine_first), expected, "{votes:?}, {me}");
                }
            }
        }
    }

    fn voters(count: u64) -> Vec<ReplicaId> {
        (1..=count).map(ReplicaId).collect()
    }

    fn checkpoints() -> Checkpoints {
        Checkpoints::new(ReplicaId(1), 8, ELECTION_TICKS)
    }

    fn hear(checkpoints: &mut Checkpoints, from: u64, digests: Digests) -> Result<(), BrokenInvariant> {
        checkpoints.heard(ReplicaId(from), Checkpoint(digests), &voters(3))
    }

    #[test]
    fn the_one_that_differs_says_who_has_what() {
        let mut checkpoints = checkpoints();
        assert_eq!([7, 8, 9, 16].map(|index| checkpoints.is_at(Index(index))), [false, true, false, true]);
        let told = checkpoints.applied(digests(8, 1, 5), &voters(3)).unwrap();
        assert_eq!(told, Checkpoint(digests(8, 1, 5)));
        hear(&mut checkpoints, 2, digests(8, 1, 6)).unwrap();
        let broken = hear(&mut checkpoints, 3, digests(8, 1, 6)).unwrap_err();
        assert_eq!(broken.name, "one history");
        for part in ["entry 8", "replica 1 has history 0101", "replica 3 has history 0101", "state 000000000000000000"]
        {
            assert!(broken.detail.contains(part), "{}", broken.detail);
        }
    }

    #[test]
    fn what_peers_said_before_is_compared_when_this_one_gets_there() {
        let mut checkpoints = checkpoints();
        hear(&mut checkpoints, 2, digests(8, 2, 0)).unwrap();
        hear(&mut checkpoints, 3, digests(8, 2, 0)).unwrap();
        checkpoints.applied(digests(8, 1, 0), &voters(3)).unwrap_err();
    }

    #[test]
    fn who_is_no_voter_has_no_say() {
        let mut checkpoints = checkpoints();
        checkpoints.applied(digests(8, 1, 0), &voters(3)).unwrap();
        for stranger in 4..9 {
            hear(&mut checkpoints, stranger, digests(8, 2, 0)).unwrap();
        }
        hear(&mut checkpoints, 1, digests(8, 2, 0)).unwrap();
        assert!(checkpoints.doubt.is_none());
    }

    #[test]
    fn a_doubt_that_nobody_settles_stops_after_ten_elections_whatever_is_applied() {
        let mut checkpoints = checkpoints();
        checkpoints.applied(digests(8, 1, 0), &voters(3)).unwrap();
        hear(&mut checkpoints, 2, digests(8, 2, 0)).unwrap();
        for tick in 1..DOUBT_ELECTIONS_MAX * ELECTION_TICKS {
            checkpoints.tick(&voters(3)).unwrap();
            checkpoints.applied(digests(8 + 8 * tick as u64, 1, 0), &voters(3)).unwrap();
        }
        checkpoints.tick(&voters(3)).unwrap_err();
    }

    #[test]
    fn a_majority_at_a_later_index_settles_the_doubt_and_silence_is_none() {
        let mut checkpoints = checkpoints();
        checkpoints.applied(digests(8, 1, 0), &voters(3)).unwrap();
        hear(&mut checkpoints, 2, digests(8, 2, 0)).unwrap();
        checkpoints.applied(digests(16, 1, 0), &voters(3)).unwrap();
        hear(&mut checkpoints, 3, digests(16, 1, 0)).unwrap();
        let mut told = 0;
        for _ in 0..20 * ELECTION_TICKS {
            told += usize::from(checkpoints.tick(&voters(3)).unwrap() == Some(Checkpoint(digests(16, 1, 0))));
        }
        assert_eq!(told, 20, "the newest is told again at every election timeout");
    }

    #[test]
    fn a_restored_replica_is_not_judged_by_what_it_was() {
        let mut checkpoints = checkpoints();
        checkpoints.applied(digests(8, 1, 0), &voters(3)).unwrap();
        hear(&mut checkpoints, 2, digests(8, 2, 0)).unwrap();
        checkpoints.restored();
        hear(&mut checkpoints, 3, digests(8, 2, 0)).unwrap();
        assert!((0..20 * ELECTION_TICKS).all(|_| checkpoints.tick(&voters(3)).unwrap().is_none()));
    }
}
