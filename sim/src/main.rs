//! The simulator's command line. Without `--cfg madsim` it runs nothing, and says so: an empty green run would be worse.

#[cfg(madsim)]
mod cli;

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    cli::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("this build simulates nothing; run `./sim/run`, which builds with --cfg madsim, and takes the arguments");
    std::process::ExitCode::from(2)
}
