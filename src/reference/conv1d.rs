//! Reference implementation of `shaders/conv1d.wgsl`, the input side of a convolution; [`linear`](super::linear) does the
//! rest.

use super::Real;
use super::linear::accumulate;
use crate::network::Window;

/// What every output sees, `seen` `[T', B, K*I]` of `[T, B, I]`; 0 outside the sequence.
pub fn windows<F: Real>(x: &[F], [steps, batch, channels]: [usize; 3], window: &Window, seen: &mut Vec<F>) {
    let [left, _] = window.padding(steps);
    let outputs = window.outputs(steps).unwrap_or(0);
    seen.clear();
    seen.reserve(outputs * batch * window.kernel_size * channels);
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
}

/// The adjoint of [`windows`]: what the gradient `d_seen` `[T', B, K*I]` adds to every input, `[T, B, I]`.
pub fn windows_backward<F: Real>(d_seen: &[F], steps: usize, batch: usize, channels: usize, window: &Window) -> Vec<F> {
    let [left, _] = window.padding(steps);
    let outputs = window.outputs(steps).unwrap_or(0);
    let mut d_x = vec![F::default(); steps * batch * channels];
    let mut parts = d_seen.chunks_exact(channels);
    for t in 0..outputs {
        for row in 0..batch {
            for (k, part) in parts.by_ref().take(window.kernel_size).enumerate() {
                let at = t * window.stride + k * window.dilation;
                if let Some(at) = at.checked_sub(left).filter(|&at| at < steps) {
                    accumulate(&mut d_x[(at * batch + row) * channels..][..channels], F::ONE, part);
                }
            }
        }
    }
    d_x
}
