//! Rare states that a good batch of runs reaches: a simulator that never gets there has not looked. Wherever the product or
//! the simulator comes to one, it says so by name (`hooks::sometimes`, or the world itself); a batch in which a mark has no
//! hit has failed, whatever its runs say.
//!
//! Absent until they are built: what belongs to changes of membership and to holds.

use std::collections::BTreeMap;

/// A rare state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its name in the code.
    pub name: &'static str,
    /// What was reached.
    pub what: &'static str,
}

macro_rules! marks {
    ($($name:ident $what:literal)*) => {
        /// Every mark that applies so far.
        pub const MARKS: &[Mark] = &[$(Mark { name: stringify!($name), what: $what }),*];
    };
}

marks! {
    leader_crash_with_unacknowledged_tail "a leader lost power with entries that nobody had acknowledged"
    conflicting_suffix_truncated "a follower threw away entries of a leader that was"
    prior_term_entry_committed "an entry of an earlier term was committed by one of the leader's own"
    two_leaders_in_different_terms "two nodes led at once, in different terms"
    pre_vote_refused "a pre-vote was refused"
    check_quorum_step_down "a leader that no majority answered stepped down"
    transfer_done "leadership was handed over"
    transfer_timed_out "a transfer of leadership came to nothing in time"
    id_reuse_refused "a node with an empty disk was refused under its old id"
    snapshot_sent "a snapshot was sent whole"
    snapshot_installed "a snapshot from a peer was installed"
    snapshot_aborted_midway "a snapshot on its way was given up"
    snapshot_fast_forwarded "a snapshot was skipped, since the log had it all"
    crash_between_stage_and_install "power was lost with a snapshot staged and not installed"
    crash_between_install_and_restore "power was lost with a snapshot installed and not yet gone on from"
    crash_in_commit "power was lost in the middle of a commit"
    torn_sector "a power cut left a part of a sector"
    pending_length_dropped "a power cut took back a file's new length"
    commit_rolled_back "a start found a commit half done, and rolled it back or reported it"
    rot_refused_at_start "a start refused what had rotted"
    sync_error_stops "a node stopped since a sync failed"
    disk_full_then_recovery "a node whose disk was full came back"
    write_error_absorbed "a failed write that nothing depended on was absorbed"
    journal_recovered "a store was opened whose journal held what its tables did not"
    journal_full "a half of the journal had no room, and the other was begun"
    journal_folded_beside "what a half of the journal held went to the tables between two commits to the other"
    thousand_commands_an_entry "an entry of a thousand commands or more was applied"
    key_hit_same_leader "a key was answered from memory by the leader that had executed it"
    key_hit_new_leader "a key was answered from memory by another leader"
    key_hit_after_restart "a key was answered from memory after a restart"
    key_hit_after_snapshot "a key was answered from memory that came with a snapshot"
    duplicate_attached_in_flight "a second request of a key waited for the first"
    late_replay_refused "a key older than what is remembered was refused"
    key_reuse_refused "a key with another request was refused"
    last_unit_by_race "several asked for a last unit at once"
    stock_out_answer "an answer said that nothing was left"
    read_retried_with_new_context "a read was asked for again under another context"
    stale_leader_read_refused "a leader that was none any more answered no read"
}

/// Those without a hit.
pub fn missing(hits: &BTreeMap<String, u64>) -> Vec<&'static Mark> {
    MARKS.iter().filter(|mark| hits.get(mark.name).is_none_or(|count| *count == 0)).collect()
}

/// Hits of names that no mark has: somebody misspelt one.
pub fn unknown(hits: &BTreeMap<String, u64>) -> Vec<&str> {
    hits.keys().map(String::as_str).filter(|name| MARKS.iter().all(|mark| mark.name != *name)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: BTreeSet<&str> = MARKS.iter().map(|mark| mark.name).collect();
        assert_eq!(names.len(), MARKS.len());
    }

    #[test]
    fn what_has_no_hit_is_missing_and_what_has_no_name_is_unknown() {
        let mut hits: BTreeMap<String, u64> = MARKS.iter().map(|mark| (mark.name.to_owned(), 1)).collect();
        assert_eq!((missing(&hits), unknown(&hits)), (vec![], vec![]));
        hits.insert("transfer_done".into(), 0);
        hits.remove("torn_sector");
        hits.insert("torn_sektor".into(), 1);
        let names: Vec<&str> = missing(&hits).into_iter().map(|mark| mark.name).collect();
        assert_eq!(names, ["transfer_done", "torn_sector"]);
        assert_eq!(unknown(&hits), ["torn_sektor"]);
    }
}
