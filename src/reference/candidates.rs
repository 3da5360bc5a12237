//! Reference implementation of `shaders/candidates.wgsl`.

use super::{Real, best, log_probability};

/// The `count` most probable tokens of a row of logits `[V]` with their log-probabilities, best first;
/// of equally probable tokens the lowest comes first.
pub fn candidates<F: Real>(row: &[F], count: usize) -> Vec<(usize, F)> {
    let tokens = std::iter::successors(best(row, None), |&last| best(row, Some(last)));
    tokens.take(count).map(|token| (token, log_probability(row, token))).collect()
}
