//! Who gets a processor first, where that is permitted: our own threads, so that what we see late was late.
//!
//! On Linux each thread has a nice value of its own and hands it on to whatever it starts. So our threads are raised when a lab begins, and
//! each child of the keeper goes back to the machine's default before it becomes a program of the lab.
//!
//! ```text
//! as root, or with CAP_SYS_NICE     ->  probes at -10, apiservers, etcd and balancers at 0
//! as anybody else                   ->  all at 0, as they were
//! as anybody else, under `nice 5`   ->  all at 5: nothing gives a child back what its parent has no right to
//! as root, under `nice 5`           ->  probes at -10, the others at 0
//! ```

use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::gettid;

/// What our threads ask for. Each step is some 25 % more of a processor that two have to share (sched(7)).
pub const RAISED: i32 = -10;

/// The machine's default.
const DEFAULT: i32 = 0;

/// Raises this thread and those of the runtimes of this process, as far as that is permitted. The builtin balancer is one of their tasks.
///
/// Returns the highest nice value among them: [`RAISED`] where all of them were raised. A second call changes nothing, but finds those that had
/// not begun at the first.
pub fn raise() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_runtimes = tasks.filter(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with("tokio")
    });
    let of_runtimes = of_runtimes.filter_map(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?));
    of_runtimes.chain([gettid()]).filter_map(raise_thread).max().unwrap_or(DEFAULT)
}

/// Its nice value afterwards, if it is still there.
fn raise_thread(thread: Pid) -> Option<i32> {
    let before = getpriority_process(Some(thread)).ok()?;
    // One that has more already keeps it.
    if before > RAISED && setpriority_process(Some(thread), RAISED).is_ok() {
        return Some(RAISED);
    }
    Some(before)
}

/// Brings this process, which has one thread only, to the machine's default, if it may.
pub(super) fn to_default() {
    let _ = setpriority_process(None, DEFAULT);
}
