//! Work in a forked child, with a time limit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The work was true.
    Right,
    /// The work was false, or panicked.
    Wrong,
    /// The work did not end in time.
    Hung,
}

/// Does `work` in a forked child.
#[allow(unsafe_code, reason = "fork and what belongs to it")]
pub fn forked(limit: Duration, work: impl FnOnce() -> bool) -> Ended {
    // SAFETY: the child does only what is under test and ends without running the parent's destructors.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        let right = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(!right)) };
    }
    let start = Instant::now();
    let mut status = 0;
    let ended = |status: &mut i32, flags| {
        // SAFETY: the child is this process's own and has not been waited for.
        let waited = unsafe { libc::waitpid(child, status, flags) };
        assert!(waited >= 0, "waitpid: {}", std::io::Error::last_os_error());
        waited == child
    };
    while !ended(&mut status, libc::WNOHANG) {
        if start.elapsed() > limit {
            // SAFETY: as above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            assert!(ended(&mut status, 0));
            return Ended::Hung;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 { Ended::Right } else { Ended::Wrong }
}
