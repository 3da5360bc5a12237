//! Reference implementation of `shaders/embedding.wgsl`.

use super::Real;
use super::linear::accumulate;
use crate::base::bits;

/// Gathers `table[token]` (`[V, E]`) for every token, `[T*B]` to `[T*B, E]`, after what `output` holds.
///
/// # Panics
/// If a token is not below V; callers check their input first.
pub fn embedding<F: Copy>(tokens: &[u32], table: &[F], embedding_dim: usize, output: &mut Vec<F>) {
    output.reserve(tokens.len() * embedding_dim);
    for &token in tokens {
        output.extend_from_slice(&table[token as usize * embedding_dim..][..embedding_dim]);
    }
}

/// The gradient of the table `[V, E]` for the gradient `d_output` `[T*B, E]` of the rows that [`embedding`] gathered.
///
/// They are added in the order of `tokens`; where `mask` (bits `[T*B]`) is off, nothing is.
///
/// # Panics
/// If a token is not below V; the forward pass has checked it.
pub fn embedding_backward<F: Real>(
    tokens: &[u32],
    [num_embeddings, embedding_dim]: [usize; 2],
    mask: Option<&[u32]>,
    d_output: &[F],
) -> Vec<F> {
    let mut d_table = vec![F::default(); num_embeddings * embedding_dim];
    for (at, (&token, d_row)) in tokens.iter().zip(d_output.chunks_exact(embedding_dim)).enumerate() {
        if mask.is_none_or(|mask| mask[at] & bits::VALID != 0) {
            accumulate(&mut d_table[token as usize * embedding_dim..][..embedding_dim], F::ONE, d_row);
        }
    }
    d_table
}
