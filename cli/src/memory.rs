//! Out of memory: one line on stderr and the exit code of every error, instead of an abort.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator.
pub struct Ending;

/// Ends the process, unless the thread can continue without the memory.
#[cold]
fn failed(bytes: usize) {
    if !gatefold::asking_for_memory() {
        end(bytes);
    }
}

/// Does not allocate and does not take the lock of stderr, which this thread may hold.
#[cfg(unix)]
#[expect(unsafe_code, reason = "std ends a process only with destructors or with a signal")]
fn end(bytes: usize) {
    use std::io::Write as _;
    let mut line = [0; 100];
    let length = line.len();
    let mut rest = &mut line[..];
    // The line is shorter than the buffer.
    let _ = writeln!(rest, "gatefold: out of memory: expected {bytes} bytes more, got none");
    let length = length - rest.len();
    // SAFETY: `length` bytes of `line` have been written, and neither call touches other memory of this process.
    unsafe {
        let _ = libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length);
        libc::_exit(crate::report::ERROR.into());
    }
}

/// On other systems Rust prints its own message and aborts.
#[cfg(not(unix))]
fn end(_: usize) {}

// SAFETY: every call and its result are passed through to the system's allocator unchanged.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl GlobalAlloc for Ending {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        answered(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        answered(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        answered(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn answered(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        failed(bytes);
    }
    pointer
}
