//! Signals that end the command: temporary files are removed first.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Whether the first signal only asks the command to end.
static FINISHES: AtomicBool = AtomicBool::new(false);
/// The signal that asked; 0 before.
static ASKED: AtomicI32 = AtomicI32::new(0);

/// From now on the first SIGINT or SIGTERM does not end the command but is told by [`asked`]; the second ends it.
pub fn finish_first() {
    FINISHES.store(true, Ordering::Relaxed);
}

/// The number of the signal that asked the command to end.
pub fn asked() -> Option<i32> {
    Some(ASKED.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Installs handlers for SIGINT, SIGTERM and the like that remove the files of unfinished writes and then run the
/// default action. If that fails, a message is logged and nothing else changes.
#[cfg(unix)]
pub fn start() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    gatefold::files::list_unfinished();
    // A signal that the caller ignores (nohup, background jobs of a shell) stays ignored.
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|&signal| !is_ignored(signal));
    let mut signals = match signal_hook::iterator::Signals::new(signals) {
        Ok(signals) => signals,
        Err(error) => return log::info!("signals are not handled: {error}"),
    };
    let wait = move || {
        for signal in &mut signals {
            let may_finish = matches!(signal, SIGINT | SIGTERM) && FINISHES.load(Ordering::Relaxed);
            if may_finish && ASKED.swap(signal, Ordering::Relaxed) == 0 {
                continue;
            }
            gatefold::files::remove_unfinished();
            // The default action ends the process, so that its parent sees the signal.
            if signal_hook::low_level::emulate_default_handler(signal).is_err() {
                std::process::exit(128 + signal);
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(wait) {
        log::info!("signals are not handled: {error}");
    }
    // A file beyond the limit of `ulimit -f` is an error of the write instead of the end of the process.
    let seen = std::sync::Arc::default();
    if let Err(error) = signal_hook::flag::register(libc::SIGXFSZ, seen) {
        log::info!("signals are not handled: {error}");
    }
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "std does not say how a signal is handled")]
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action nothing changes, and the present one is written to `action` if the answer is 0.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
pub fn start() {}
