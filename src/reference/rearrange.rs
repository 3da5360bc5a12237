//! Reference implementation of `shaders/rearrange.wgsl`.

use super::Real;
use crate::network::RowMap;

/// Sizes of a rearrangement: timesteps and features of its input and its output, and batch rows.
#[derive(Clone, Copy, Debug)]
pub struct RearrangeSizes {
    /// T and N.
    pub input: [usize; 2],
    /// T' and N'.
    pub output: [usize; 2],
    /// B
    pub batch: usize,
}

impl RearrangeSizes {
    /// Calls `with` with the places of every number of the output and of the number that it is, if it is one.
    fn for_each(&self, map: RowMap, mut with: impl FnMut(usize, Option<usize>)) {
        let ([in_steps, in_features], [steps, features]) = (self.input, self.output);
        let mut to = 0;
        for t in 0..steps {
            for row in 0..self.batch {
                for n in 0..features {
                    let from = map.place(t, n, in_steps * in_features);
                    let from = from.map(|at| (at / in_features * self.batch + row) * in_features + at % in_features);
                    with(to, from);
                    to += 1;
                }
            }
        }
    }
}

/// `x` `[T, B, N]` as `output` `[T', B, N']`; 0 where the map leads out of a row.
pub fn rearrange<F: Real>(x: &[F], map: RowMap, sizes: RearrangeSizes, output: &mut Vec<F>) {
    let [steps, features] = sizes.output;
    output.clear();
    output.resize(steps * sizes.batch * features, F::default());
    sizes.for_each(map, |to, from| {
        if let Some(from) = from {
            output[to] = x[from];
        }
    });
}

/// The gradient of `x` of [`rearrange`] from that of its output; a number that is given several times has the sum.
pub fn rearrange_backward<F: Real>(d_output: &[F], map: RowMap, sizes: RearrangeSizes) -> Vec<F> {
    let [steps, features] = sizes.input;
    let mut d_x = vec![F::default(); steps * sizes.batch * features];
    sizes.for_each(map, |to, from| {
        if let Some(from) = from {
            d_x[from] += d_output[to];
        }
    });
    d_x
}
