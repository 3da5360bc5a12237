//! Twin of `shaders/conv1d.wgsl`, the reading side of a convolution; [`linear`](super::linear) does the rest.

use super::Real;
use crate::network::Window;

/// What every output sees: `[T, B, I]` to `[T', B, K*I]`, 0 outside the sequence.
pub fn windows<F: Real>(x: &[F], steps: usize, batch: usize, channels: usize, window: &Window) -> Vec<F> {
    let [left, _] = window.padding(steps);
    let outputs = window.outputs(steps).unwrap_or(0);
    let mut seen = Vec::with_capacity(outputs * batch * window.kernel_size * channels);
    for t in 0..outputs {
        for row in 0..batch {
            for k in 0..window.kernel_size {
                let at = t * window.stride + k * window.dilation;
                match at.checked_sub(left).filter(|&at| at < steps) {
                    Some(at) => seen.extend_from_slice(&x[(at * batch + row) * channels..][..channels]),
                    None => seen.extend(std::iter::repeat_n(F::default(), channels)),
                }
            }
        }
    }
    seen
}
