//! temporary
#[cfg(not(madsim))]
fn main() { std::process::exit(2) }
#[cfg(madsim)]
fn main() {
    use tombola_sim::{plan, world, trace::Trace};
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    for seed in args[0]..args[0] + args.get(1).copied().unwrap_or(1) {
        let plan = plan::generate(seed);
        let begun = std::time::Instant::now();
        let trace = if std::env::var("TRACE").is_ok() { Trace::to(Box::new(|_, _, line| println!("{line}"))) } else { Trace::default() };
        let verdict = world::run(&plan, world::Run { bug: std::env::var("BUG").ok(), trace });
        println!("seed {seed}: {:?} trace {:016x} {:?} in {:?} {:?} entries {} outcomes {} reads {}", verdict.failure.as_ref().map(|f| f.to_string()), verdict.trace, verdict.simulated, begun.elapsed(), verdict.faults, verdict.report.entries, verdict.report.outcomes, verdict.report.reads);
    }
}
