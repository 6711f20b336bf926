//! What applying an entry allocates: pages for its keys now and then, and nothing for a draw.

#[path = "../benches/support/mod.rs"]
mod support;

use support::{HUNDREDS, SINGLE, Shape, THOUSANDS, draws, stocked};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Entries that are counted, and as many before them that are not: what is small in the beginning grows in those.
const ENTRIES: u64 = 40;
/// What an entry may ask for, whatever is in it,
const ALLOCATIONS_AN_ENTRY_MAX: u64 = 16;
/// and how many keys share what is asked for them.
const KEYS_AN_ALLOCATION_MIN: u64 = 32;

/// How often memory is asked for while so many entries are applied, where nobody waits for the outcomes.
fn allocations(shape: Shape) -> u64 {
    let mut machine = stocked(6);
    let entries: Vec<_> = (0..2 * ENTRIES).map(|number| draws(shape, number).encode()).collect();
    let (first, then) = entries.split_at(entries.len() / 2);
    let mut apply = |entry: &Vec<u8>| machine.apply_unheard(machine.applied().next(), entry);
    first.iter().for_each(&mut apply);
    let before = dhat::HeapStats::get().total_blocks;
    then.iter().for_each(&mut apply);
    dhat::HeapStats::get().total_blocks - before
}

#[test]
fn a_draw_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    for shape in [SINGLE, HUNDREDS, THOUSANDS] {
        let (keys, counted) = (ENTRIES * shape.keys, allocations(shape));
        let words = format!("{} draws a key: {counted} allocations for {ENTRIES} entries of {keys} keys", shape.draws);
        println!("{words}");
        assert!(counted <= ENTRIES * ALLOCATIONS_AN_ENTRY_MAX + keys / KEYS_AN_ALLOCATION_MIN, "{words}");
    }
}
