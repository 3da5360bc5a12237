//! Twin of `shaders/embedding.wgsl`.

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
