//! Planted bugs: mistakes that somebody could make, each behind a switch of its own that exists in simulator builds alone
//! (`hooks::is_planted`). A checker that has never caught one proves nothing, so all of them have to be caught. The null
//! mutant, which changes nothing, must not be: else whoever caught the others may have been crying wolf.
//!
//! Absent until membership changes are built: m29, a removed leader that does not step down, and m31, a joint configuration
//! that nobody leaves.

/// The mutant that changes nothing.
pub const NULL: &str = "m00";

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// The name of its switch.
    pub id: &'static str,
    /// What it does wrong.
    pub what: &'static str,
    /// Checkers that are expected to see it; whichever is first.
    pub catchers: &'static [&'static str],
}

macro_rules! mutants {
    ($($id:ident $what:literal $($catcher:ident)*;)*) => {
        /// All of them.
        pub const MUTANTS: &[Mutant] =
            &[$(Mutant { id: stringify!($id), what: $what, catchers: &[$(stringify!($catcher)),*] }),*];
    };
}

mutants! {
    m00 "nothing";
    m01 "append responses leave before the commit" promise durable ledger raft;
    m02 "term and vote are left out of the write" raft promise;
    m03 "messages of an empty Ready leave at once" promise raft;
    m04 "half of the voters commit" ledger promise raft durable digest;
    m05 "answered at append, not at apply" durable promise once linear phantom;
    m06 "the key table is left out of snapshots" once digest;
    m07 "keys are remembered without their pool" once digest linear phantom;
    m08 "keys are checked by the leader alone, before it proposes" once digest linear;
    m09 "a forgotten key is executed again" once digest;
    m10 "a key's age is taken from the node's own clock" digest once;
    m11 "another request under a key gets the old answer" once linear digest;
    m12 "losses are not remembered" once digest linear;
    m13 "draws take randomness of the node" digest linear;
    m14 "apply goes by the order of a hash map" digest linear;
    m15 "the last unit counts as none" stock digest linear;
    m16 "sampling by remainder, without rejection; the model is told" draw;
    m17 "the entry after a snapshot is lost" digest ledger;
    m18 "the store keeps an old suffix on conflict" ledger promise digest raft stopped;
    m19 "commits are not durable" promise durable raft stopped;
    m20 "entries and hard state in two transactions" promise raft stopped;
    m21 "the log is cut before the snapshot is in" durable panic promise raft stopped;
    m22 "neither checksums nor integrity are looked at when a node starts" digest ledger promise panic;
    m23 "a failed sync is tried again and reported as done" promise durable raft stopped;
    m24 "the fence is off: a dead life still writes" disk;
    m25 "an emptied node comes back under its old id" raft durable ledger promise;
    m26 "the leader reads without asking a majority" linear;
    m27 "reads are answered before their index is applied" linear;
    m28 "the context of a read is used again" linear live;
    m30 "the report on a snapshot is lost" live;
    m32 "an unknown outcome is told as a failure" phantom;
    m33 "half a snapshot is taken for a whole one" digest panic;
    m34 "nothing waits while a snapshot is installed, nor does the word that it is" promise panic stopped raft;
    m35 "cluster time goes back" digest linear;
    m36 "proposals are numbered anew in each life" linear once phantom durable;
    m37 "the log is cut above the snapshot" panic stopped promise;
    m38 "what was forwarded over a link that is lost counts as never sent" phantom;
    m39 "the leader's clock alone is the cluster's" time;
    m40 "who is told of a failure leaves a place taken" bounds;
    m41 "a request without a key gets another one each time it is sent" phantom once stock;
    m42 "who waited last leaves the queue standing" live;
    m43 "records of the journal that the tables hold are taken, too" promise panic stopped;
    m44 "the tables name a record as missing that they hold" promise panic stopped;
}

/// The one of that id.
pub fn find(id: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_each_bug_has_a_catcher() {
        assert!(MUTANTS.is_sorted_by(|one, next| one.id < next.id));
        assert!(MUTANTS.iter().all(|mutant| mutant.catchers.is_empty() == (mutant.id == NULL)));
        assert!(MUTANTS.len() > 32);
        assert_eq!(find("m15").map(|mutant| mutant.catchers[0]), Some("stock"));
        assert_eq!(find("m29"), None);
    }
}
