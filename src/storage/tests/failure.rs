//! The disk fails at every call: an error, which is the last word, and never less than was acknowledged.

use std::io::ErrorKind;

use super::{
    disk::{Failure, Leaves, Sectors},
    life::{Act, Content, installed, own, received, snapshot, stage, taken},
    *,
};

/// Acts, and the one that is to fail: each kind of write, on a store with a log.
fn cases() -> Vec<(&'static str, Vec<Act>, Act)> {
    let one = |set: WriteSet| Act::Commit(vec![set]);
    let (mine, theirs) = (snapshot(4, 2, 900), snapshot(9, 3, 700));
    let log = vec![
        Act::Commit(vec![prepare(), found(100), promise(1, hard_state(2, 1, 1))]),
        Act::Commit(vec![append(2, entries(2..=6, 2, 64)), commit_to(3, hard_state(2, 1, 4))]),
    ];
    let short = |numbers: std::ops::RangeInclusive<u64>| -> Vec<Act> {
        numbers.map(|number| one(append(number, entries(number + 3..=number + 3, 2, 64)))).collect()
    };
    let with = |more: Vec<Act>| [log.clone(), more].concat();
    let take = one(taken(4, &mine, (3, 2)));
    let install = vec![received(&theirs), stage(&theirs, 0..1)[0].clone()];
    vec![
        ("prepare", vec![], one(prepare())),
        ("found", vec![one(prepare())], one(found(3000))),
        ("append", with(vec![]), one(append(4, entries(7..=9, 2, 5000)))),
        ("conflict and promise", with(vec![]), one(WriteSet { promise: true, ..append(4, entries(5..=5, 2, 10)) })),
        ("grow the file", with(vec![]), one(append(4, entries(7..=30, 2, 100_000)))),
        ("begin the journal's other half", with(short(4..=10)), short(11..=11)[0].clone()),
        ("wait for a half", with(short(4..=18)), short(19..=19)[0].clone()),
        ("begin", with(vec![]), own(&mine)),
        ("stage", with(vec![received(&theirs)]), stage(&theirs, 0..1)[0].clone()),
        ("take", with(vec![own(&mine), stage(&mine, 0..1)[0].clone()]), take.clone()),
        ("install", with(install), one(installed(4, &theirs, hard_state(3, 0, 9)))),
        ("clean", with(vec![own(&mine), stage(&mine, 0..1)[0].clone(), take]), Act::Clean),
        ("shut down and start", with(vec![]), Act::Reopen),
    ]
}

fn lived(acts: &[Act]) -> (Disk, Store) {
    let disk = Disk::default();
    let store = created(&disk);
    let store = acts.iter().try_fold(store, |store, act| act.on(&disk, store)).unwrap();
    (disk, store)
}

fn content_of(image: Image, at: &str) -> Content {
    let opened = Store::open(Disk::holding(image), wanted(), |_| {});
    let (mut store, recovered) = opened.unwrap_or_else(|error| panic!("{at}: {error}"));
    Content::found(&mut store, recovered)
}

/// Does the act while a call fails, and then whatever else there is to do: none of that may reach the disk.
fn fail(disk: &Disk, mut store: Store, act: &Act, at: &str) -> Result<(), StoreError> {
    let result = match act {
        Act::Reopen => return act.on(disk, store).map(drop),
        Act::Commit(sets) => store.commit(sets),
        Act::Begin(staging) => store.begin(staging).map(drop),
        Act::Stage(number, chunk) => store.stage(*number, chunk),
        Act::Clean => store.clean().map(drop),
        Act::Fold => unreachable!("see `fold`"),
    };
    if result.is_err() {
        let calls = disk.counts().calls;
        let later = [
            store.commit(&[append(4, entries(7..=7, 2, 10))]).unwrap_err(),
            store.commit(&[]).unwrap_err(),
            store.begin(&Staging::Own { index: Index(4) }).unwrap_err(),
            store.stage(0, &[1]).unwrap_err(),
            store.chunk(Index(1), 0).unwrap_err(),
            store.clean().unwrap_err(),
            store.load().unwrap_err(),
        ];
        assert_eq!(later.map(|error| error.code()), ["STORE_FAILED"; 7], "{at}");
        assert_eq!(disk.counts().calls, calls, "{at}: the disk was asked again");
    }
    result
}

#[test]
fn the_first_error_of_the_disk_is_the_last_call() {
    let (mut failed, mut absorbed) = (0, 0);
    for (name, before, act) in cases() {
        let models = Model::along(&[before.clone(), vec![act.clone()]].concat());
        let [old, new] = [&models[before.len()], &models[before.len() + 1]].map(Model::content);
        let (disk, store) = lived(&before);
        let first = disk.counts().calls;
        let store = act.on(&disk, store).unwrap();
        for call in first..disk.counts().calls {
            for (is_lasting, kind) in [(false, ErrorKind::Other), (true, ErrorKind::StorageFull)] {
                let at = format!("{name}, call {} fails with {kind}, for good: {is_lasting}", call - first);
                let (disk, store) = lived(&before);
                disk.fail(Failure { at: call, is_lasting, kind });
                let result = fail(&disk, store, &act, &at);
                let after_power_cut = disk.after_power_cut(Leaves { sectors: Sectors::Nothing, length: false });
                let left = [disk.image(), after_power_cut.image()].map(|image| content_of(image, &at));
                match result {
                    Ok(()) => {
                        absorbed += 1;
                        assert!(left.iter().all(|content| *content == new), "{at}: acknowledged, and is not there");
                    }
                    Err(error) => {
                        failed += 1;
                        assert_eq!(error.code(), "STORE_IO", "{at}: {error}");
                        assert!(left.iter().all(|content| *content == old || *content == new), "{at}: {left:?}");
                    }
                }
            }
        }
        drop(store);
    }
    assert!(failed > 200, "{failed} failed, {absorbed} were absorbed");
}
