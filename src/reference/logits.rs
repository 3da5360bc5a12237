//! Reference implementation of `shaders/common/logits.wgsl`: functions of a row of logits `[V]`.

use super::Real;

/// The first logit that is NaN or infinite.
pub fn first_bad<F: Real>(row: &[F]) -> Option<usize> {
    row.iter().position(|x| !x.to_f64().is_finite())
}

/// The best logit after token `last`, or of all; of equal logits the lowest token comes first.
pub fn best<F: Real>(row: &[F], last: Option<usize>) -> Option<usize> {
    let before = |a: usize, b: usize| row[a] > row[b] || (row[a] == row[b] && a < b);
    (0..row.len())
        .filter(|&token| last.is_none_or(|last| before(last, token)))
        .reduce(|best, token| if before(token, best) { token } else { best })
}

/// The log-probability of `token`: its logit less the logarithm of the sum of all exponentials.
pub fn log_probability<F: Real>(row: &[F], token: usize) -> F {
    let highest = best(row, None).map_or_else(F::default, |best| row[best]);
    let mut sum = F::default();
    for &x in row {
        sum += (x - highest).exp();
    }
    row[token] - highest - (sum - F::ONE).ln_1p()
}
