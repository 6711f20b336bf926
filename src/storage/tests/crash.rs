//! Power is cut at every operation of a life: creation, founding, votes, appends, conflicts, growth, shutdown, restart.

use super::{
    disk::{Failure, Leaves},
    *,
};

const LEAVES: [Leaves; 6] =
    [Leaves::All, Leaves::Nothing, Leaves::Some(1), Leaves::Some(2), Leaves::Torn(3), Leaves::Torn(4)];

/// The commits of a life; the store is shut down cleanly and opened again after each `None`.
fn life() -> Vec<Option<Vec<WriteSet>>> {
    let conflict =
        WriteSet { hard_state: Some(hard_state(3, 0, 5)), promise: true, ..append(6, entries(7..=8, 3, 99)) };
    vec![
        Some(vec![prepare()]),
        Some(vec![found(3000)]),
        Some(vec![promise(1, hard_state(2, 1, 1))]),
        Some(vec![append(2, entries(2..=5, 2, 200))]),
        None,
        Some(vec![append(3, entries(6..=9, 2, 4096)), commit_to(4, hard_state(2, 1, 5))]),
        Some(vec![conflict]),
        Some(vec![append(7, entries(9..=20, 3, 65_536))]),
        Some(vec![commit_to(8, hard_state(3, 0, 18))]),
        None,
        Some(vec![append(9, entries(21..=21, 3, 10))]),
    ]
}

/// A data directory: what bears the name of a store, and what is being made of one.
#[derive(Clone, Default)]
struct Directory {
    new: Disk,
    store: Option<Disk>,
}

impl Directory {
    /// As `storage::open` does: leftovers go, a store is made if there is none.
    fn open(&mut self, cut: Option<u64>) -> Result<(Store, Recovered), StoreError> {
        if self.store.is_none() {
            self.new = Disk::default();
            if let Some(cut) = cut {
                self.new.fail(Failure::PowerCut(cut));
            }
            create(self.new.clone(), identity())?;
            assert!(self.new.is_synced(), "a store is durable before it takes its name");
            self.store = Some(self.new.clone());
        }
        Store::open(self.store.clone().unwrap(), wanted(), |_| {})
    }

    /// Lives until power is cut at operation `cut`. Gives how many commits were acknowledged, and how many operations
    /// there were.
    fn live(&mut self, cut: Option<u64>) -> usize {
        let mut acknowledged = 0;
        let Ok((mut store, _)) = self.open(cut) else { return 0 };
        for commit in life() {
            match commit {
                Some(sets) => match store.commit(&sets) {
                    Ok(()) => acknowledged += 1,
                    Err(_) => return acknowledged,
                },
                None => {
                    drop(store);
                    match self.open(None) {
                        Ok((opened, _)) => store = opened,
                        Err(_) => return acknowledged,
                    }
                }
            }
        }
        acknowledged
    }

    fn after_power_cut(&self, leaves: Leaves) -> Self {
        Self { new: self.new.after_power_cut(leaves), store: self.store.as_ref().map(|d| d.after_power_cut(leaves)) }
    }
}

/// What the store may hold after that many commits.
fn state_after(commits: usize) -> Recovered {
    let sets: Vec<WriteSet> = life().into_iter().flatten().take(commits).flatten().collect();
    model(&sets)
}

#[test]
fn power_cut_at_any_operation_leaves_the_old_state_or_the_new_one() {
    let mut whole = Directory::default();
    let commits = whole.live(None);
    assert_eq!(commits, life().iter().flatten().count());
    let operations = whole.store.unwrap().operations();
    let states: Vec<Recovered> = (0..=commits + 1).map(state_after).collect();
    let mut outcomes = [0; 2];
    for cut in 0..operations {
        let mut before = Directory::default();
        let acknowledged = before.live(Some(cut));
        for leaves in LEAVES {
            let mut after = before.after_power_cut(leaves);
            let at = format!("cut at {cut} of {operations}, which leaves {leaves:?}");
            let first = again(&mut after, cut, leaves);
            let (mut store, recovered) = first.open(None).unwrap_or_else(|error| panic!("{at}: {error}"));
            let is_new = recovered == states[acknowledged + 1] && recovered != states[acknowledged];
            assert!(is_new || recovered == states[acknowledged], "{at}: {recovered:?}");
            outcomes[usize::from(is_new)] += 1;
            // It goes on: the next commit of the life, or the one that was cut off.
            if let Some(next) = life().into_iter().flatten().nth(acknowledged + usize::from(is_new)) {
                store.commit(&next).unwrap_or_else(|error| panic!("{at}: {error}"));
            }
        }
    }
    assert!(outcomes.iter().all(|&count| count > 20), "both must happen often: {outcomes:?}");
}

/// Cuts power once more while the store is opened, at an operation that differs from cut to cut.
fn again(directory: &mut Directory, cut: u64, leaves: Leaves) -> &mut Directory {
    if let Some(disk) = &directory.store {
        let rehearsal = Disk::holding(disk.image());
        let _ = Store::open(rehearsal.clone(), wanted(), |_| {});
        disk.fail(Failure::PowerCut(cut % rehearsal.operations().max(1)));
        let _ = Store::open(disk.clone(), wanted(), |_| {});
        *directory = directory.after_power_cut(leaves);
    }
    directory
}
