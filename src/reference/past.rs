//! Reference implementation of `shaders/past.wgsl`: the past inputs of a window over time.

use super::Real;

/// P, T, B and I: timesteps that a window keeps, timesteps of its input, batch rows, and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastSizes {
    /// P
    pub past: usize,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// I
    pub features: usize,
}

/// Inputs behind the past ones of their rows: `[B, P, I]` and `[T, B, I]` to `all` `[P+T, B, I]`.
///
/// `first` is the timestep `[B]` at which each row of `x` begins, if not all begin at 0: its past inputs come right before
/// that, and what comes before them is 0.
pub fn with_past<F: Real>(past: &[F], x: &[F], sizes: PastSizes, first: Option<&[usize]>, all: &mut Vec<F>) {
    let PastSizes { past: kept, steps, batch, features } = sizes;
    all.clear();
    all.reserve((kept + steps) * batch * features);
    for t in 0..kept + steps {
        for row in 0..batch {
            let first = first.map_or(0, |first| first[row]);
            if t >= kept + first {
                all.extend_from_slice(&x[((t - kept) * batch + row) * features..][..features]);
            } else if t >= first {
                all.extend_from_slice(&past[(row * kept + t - first) * features..][..features]);
            } else {
                all.extend(std::iter::repeat_n(F::default(), features));
            }
        }
    }
}

/// The last P inputs of every row, `[T, B, I]` to `past` `[B, P, I]`; `start` where there are fewer. T counts past inputs in
/// front.
pub fn past_after<F: Real>(x: &[F], sizes: PastSizes, start: F, past: &mut [F]) {
    let PastSizes { past: kept, steps, batch, features } = sizes;
    for (at, to) in past.chunks_exact_mut(features).enumerate() {
        match (steps + at % kept).checked_sub(kept) {
            Some(t) => to.copy_from_slice(&x[(t * batch + at / kept) * features..][..features]),
            None => to.fill(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_inputs_come_right_before_the_first_of_their_row() {
        let sizes = PastSizes { past: 2, steps: 3, batch: 2, features: 1 };
        let (past, x) = ([1.0f32, 2.0, 3.0, 4.0], [10.0, 90.0, 11.0, 91.0, 12.0, 22.0]);
        // By timestep and row.
        let even = [1.0, 3.0, 2.0, 4.0, 10.0, 90.0, 11.0, 91.0, 12.0, 22.0];
        let behind = |first: Option<&[usize]>| {
            let mut all = Vec::new();
            with_past(&past, &x, sizes, first, &mut all);
            all
        };
        assert_eq!(behind(None), even);
        let uneven = behind(Some(&[0, 2]));
        assert_eq!(uneven, [1.0, 0.0, 2.0, 0.0, 10.0, 3.0, 11.0, 4.0, 12.0, 22.0]);
        let after = |x: &[f32], steps: usize| {
            let mut past = [0.0; 4];
            past_after(x, PastSizes { steps, ..sizes }, -1.0, &mut past);
            past
        };
        assert_eq!(after(&uneven, 5), [11.0, 12.0, 4.0, 22.0]);
        // A row without a step keeps what it has.
        assert_eq!(after(&behind(Some(&[0, 3])), 5)[2..], [3.0, 4.0]);
        assert_eq!(after(&x[..2], 1), [-1.0, 10.0, -1.0, 90.0]);
    }
}
