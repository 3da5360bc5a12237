//! Twin of `shaders/embedding.wgsl`.

/// Gathers `table[token]` (`[V, E]`) for every token: `[T*B]` to `[T*B, E]`.
///
/// # Panics
/// If a token is not below V; callers check their input first.
pub fn embedding<F: Copy>(tokens: &[u32], table: &[F], embedding_dim: usize) -> Vec<F> {
    tokens.iter().flat_map(|&token| &table[token as usize * embedding_dim..][..embedding_dim]).copied().collect()
}
