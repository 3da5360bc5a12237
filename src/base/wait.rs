//! Waits for a future: on the calling thread, except in a browser, whose one thread may not wait.

use std::task::Poll;

use crate::base::error::Result;

/// Whether a thread may wait.
const BLOCKS: bool = cfg!(not(all(target_arch = "wasm32", target_os = "unknown")));

/// The result of `future`. In a browser it is polled once, which is enough on the CPU device. If it then waits for a GPU, the
/// result is [`Error::Unsupported`](crate::Error::Unsupported), which names `twin`, the call to await instead.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub(crate) fn wait<T>(_twin: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    pollster::block_on(future)
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub(crate) fn wait<T>(twin: &str, future: impl Future<Output = Result<T>>) -> Result<T> {
    polled_once(future).unwrap_or_else(|| Err(blocking(twin)))
}

/// An error in a browser: for a call that would wait for a GPU behind changes that it cannot take back.
pub(crate) fn may_block(twin: &str) -> Result<()> {
    // A future that is never ready is waited for in a browser alone.
    wait(twin, std::future::poll_fn(|_| if BLOCKS { Poll::Ready(Ok(())) } else { Poll::Pending }))
}

/// The result of a future that is ready at its first poll.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
fn polled_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// The error of a call that would have to wait for a GPU; `twin` is what may be done instead.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
fn blocking(twin: &str) -> crate::base::error::Error {
    crate::base::error::Error::Unsupported {
        place: "browser".into(),
        what: format!("a call that waits for a GPU (use {twin})"),
    }
}
