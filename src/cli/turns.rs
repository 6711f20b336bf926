//! How processes that share a machine take turns.

use rustix::process::getpriority_process;
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

/// How [`thread_priority`] writes a nice value of 0, which it sets together with the policy.
const NICE_0: u8 = 47;

/// From now on this thread, and every thread and process that it starts, waits for its turn when it wakes up, rather than
/// interrupt whoever runs (Linux's SCHED_BATCH). The nodes of a developer's cluster and the load on it wake each other tens of
/// thousands of times a second, and on few cores each interruption leaves work half done in a cold cache; who has a core
/// for itself is not concerned. Turns are short, and everybody's share stays the same.
///
/// Whoever was given another policy, or a nice value, keeps it. If the operating system does not grant it, everything works
/// without, and there is nothing to tell.
pub fn wait_for_turns() {
    let others = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    if getpriority_process(None) != Ok(0) || thread_schedule_policy() != Ok(others) {
        return;
    }
    let priority = ThreadPriorityValue::try_from(NICE_0).expect("it is below 100");
    let batch = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), batch);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const OTHER: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    const BATCH: ThreadSchedulePolicy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);

    fn policy_and_nice() -> (ThreadSchedulePolicy, i32) {
        (thread_schedule_policy().unwrap(), getpriority_process(None).unwrap())
    }

    /// In a thread of its own, as both are a thread's; and of one that it starts afterwards.
    fn afterwards(before: impl FnOnce() + Send) -> (ThreadSchedulePolicy, i32) {
        let started = || {
            before();
            wait_for_turns();
            thread::scope(|scope| scope.spawn(policy_and_nice).join().unwrap())
        };
        thread::scope(|scope| scope.spawn(started).join().unwrap())
    }

    #[test]
    fn who_waits_for_turns_is_as_nice_as_before_and_so_is_whom_it_starts() {
        let before = policy_and_nice();
        let expected = if before == (OTHER, 0) { (BATCH, 0) } else { before };
        assert_eq!(afterwards(|| ()), expected);
        assert_eq!(policy_and_nice(), before, "nobody else is concerned");
    }

    #[test]
    fn who_was_made_nicer_stays_as_it_is() {
        let (policy, _) = policy_and_nice();
        let nicest = || rustix::process::setpriority_process(None, 19).unwrap();
        assert_eq!(afterwards(nicest), (policy, 19));
    }
}
