//! Twin of `shaders/pool.wgsl`.

use super::Real;
use crate::base::bits;
use crate::network::{Pool, Window};

/// The largest or mean value of every window, `[T, B, N]` to `[T', B, N]`.
///
/// With a `mask` (bits `[T, B]`) a mean counts only the steps that are on; it is 0 where none is.
pub fn pool<F: Real>(
    x: &[F],
    [steps, batch, channels]: [usize; 3],
    window: &Window,
    pool: Pool,
    count_include_pad: bool,
    mask: Option<&[u32]>,
) -> Vec<F> {
    let [left, right] = window.padding(steps);
    let outputs = window.outputs(steps).unwrap_or(0);
    let mut output = Vec::with_capacity(outputs * batch * channels);
    for t in 0..outputs {
        // In the padded sequence; a window may begin in the padding.
        let first = t * window.stride;
        let end = (first + window.kernel_size).min(steps + left + right);
        let inside = first.max(left) - left..end.saturating_sub(left).min(steps);
        for row in 0..batch {
            let on = |at: &usize| mask.is_none_or(|mask| mask[at * batch + row] & bits::VALID != 0);
            for channel in 0..channels {
                let value = |at: usize| x[(at * batch + row) * channels + channel];
                output.push(match pool {
                    Pool::Max => inside.clone().map(value).reduce(|a, b| if b > a { b } else { a }).unwrap_or_default(),
                    Pool::Average => {
                        let counted = if count_include_pad { end - first } else { inside.clone().filter(on).count() };
                        let mut sum = F::default();
                        for at in inside.clone().filter(on) {
                            sum += value(at);
                        }
                        if counted == 0 { sum } else { sum / F::count(counted) }
                    }
                });
            }
        }
    }
    output
}
