//! Reference implementation of `shaders/pool.wgsl`.

use std::ops::Range;

use super::Real;
use crate::base::bits;
use crate::network::{Pool, Window};

/// The largest, mean or sum of every window, `[T, B, N]` to `[T', B, N]`.
///
/// With a `mask` (bits `[T, B]`) a mean and a sum count only the steps that are on; it is 0 where none is.
pub fn pool<F: Real>(
    x: &[F],
    [steps, batch, channels]: [usize; 3],
    window: &Window,
    pool: Pool,
    count_include_pad: bool,
    mask: Option<&[u32]>,
) -> Vec<F> {
    let outputs = window.outputs(steps).unwrap_or(0);
    let mut output = Vec::with_capacity(outputs * batch * channels);
    for t in 0..outputs {
        let Seen { inside, padded } = seen(window, steps, t);
        for row in 0..batch {
            let on = |at: &usize| is_on(mask, at * batch + row);
            for channel in 0..channels {
                let value = |at: usize| x[(at * batch + row) * channels + channel];
                output.push(match pool {
                    Pool::Max => largest(inside.clone(), value).map(value).unwrap_or_default(),
                    Pool::Average | Pool::Sum => {
                        let counted = if count_include_pad { padded } else { inside.clone().filter(on).count() };
                        let mut sum = F::default();
                        for at in inside.clone().filter(on) {
                            sum += value(at);
                        }
                        if counted == 0 || pool == Pool::Sum { sum } else { sum / F::count(counted) }
                    }
                });
            }
        }
    }
    output
}

/// The gradient of `x` of [`pool`] with the same arguments, for the gradient `d_output` `[T', B, N]` of its output: that
/// of a largest value goes to the first of equals, that of a mean or a sum to every step that it counted.
pub fn pool_backward<F: Real>(
    x: &[F],
    [steps, batch, channels]: [usize; 3],
    window: &Window,
    pool: Pool,
    count_include_pad: bool,
    mask: Option<&[u32]>,
    d_output: &[F],
) -> Vec<F> {
    let mut d_x = vec![F::default(); x.len()];
    for (t, d_step) in d_output.chunks_exact(batch * channels).enumerate() {
        let Seen { inside, padded } = seen(window, steps, t);
        for (at, &d) in d_step.iter().enumerate() {
            let (row, place) = (at / channels, |step: usize| step * batch * channels + at);
            match pool {
                Pool::Max => {
                    if let Some(step) = largest(inside.clone(), |step| x[place(step)]) {
                        d_x[place(step)] += d;
                    }
                }
                Pool::Average | Pool::Sum => {
                    let on = |step: &usize| is_on(mask, step * batch + row);
                    let counted = match pool {
                        Pool::Sum => 1,
                        _ if count_include_pad => padded,
                        _ => inside.clone().filter(on).count(),
                    };
                    for step in inside.clone().filter(on) {
                        d_x[place(step)] += d / F::count(counted);
                    }
                }
            }
        }
    }
    d_x
}

/// What output `t` sees of `steps` timesteps.
struct Seen {
    /// The timesteps.
    inside: Range<usize>,
    /// How many there are with the padding.
    padded: usize,
}

fn seen(window: &Window, steps: usize, t: usize) -> Seen {
    let [left, right] = window.padding(steps);
    // In the padded sequence; a window may begin in the padding.
    let first = t * window.stride;
    let end = (first + window.kernel_size).min(steps + left + right);
    Seen { inside: first.max(left) - left..end.saturating_sub(left).min(steps), padded: end - first }
}

/// The step of the largest value; the first of equals.
fn largest<F: Real>(mut steps: Range<usize>, value: impl Fn(usize) -> F) -> Option<usize> {
    let first = steps.next()?;
    Some(steps.fold(first, |best, step| if value(step) > value(best) { step } else { best }))
}

fn is_on(mask: Option<&[u32]>, at: usize) -> bool {
    mask.is_none_or(|mask| mask[at] & bits::VALID != 0)
}
