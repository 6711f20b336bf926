//! What the kernel knows of processes and of the machine (`proc(5)`), and which commit this is.

use std::{fs, process::Command};

/// The kernel's clock ticks a second, as `/proc` counts them: 100 on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// Processor time that a process, which may be a zombie, has spent so far in user and system, in microseconds.
pub fn cpu_us(pid: u32) -> f64 {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The name, in parentheses, may hold anything; utime and stime are the 14th and 15th field of all.
    let rest = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks: f64 = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks")).sum();
    ticks / TICKS_PER_S * 1e6
}

/// Resident memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> f64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the process lives");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("kB") / 1_024.0
}

/// Bytes that a process had written to the disk so far.
pub fn written_bytes(pid: u32) -> f64 {
    let io = read(&format!("/proc/{pid}/io"));
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:")).expect("the process lives");
    line.trim().parse().expect("bytes")
}

/// Processor time of the whole machine so far: spent, and in all.
pub fn machine_ticks() -> (f64, f64) {
    let stat = read("/proc/stat");
    let fields = stat.lines().next().expect("the sum over all processors").split_whitespace().skip(1);
    let fields: Vec<f64> = fields.take(8).map(|field| field.parse().expect("ticks")).collect();
    let all = fields.iter().sum::<f64>();
    (all - fields[3] - fields[4], all)
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    read("/proc/loadavg").split_whitespace().next().and_then(|text| text.parse().ok()).expect("a load average")
}

/// The machine in some words.
pub fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    format!("{cpus} processors ({}), load average {}", model.trim_start_matches(['\t', ' ', ':']), load_average())
}

/// The commit that was built, marked if there is more than that.
pub fn commit() -> String {
    let output = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
