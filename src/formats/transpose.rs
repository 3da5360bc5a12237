//! Matrices whose rows become columns.

/// `[K, N]` as `[N, K]`.
pub(super) fn transpose(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut transposed = vec![0.0; rows * columns];
    transpose_rows(numbers, 0, [rows, columns], &mut transposed);
    transposed
}

/// Puts some rows of a matrix `[K, N]`, from the row `first` on, into the matrix `[N, K]`.
pub(super) fn transpose_rows(numbers: &[f32], first: usize, [rows, columns]: [usize; 2], transposed: &mut [f32]) {
    // So many columns at a time, so that each piece of memory that is read is used whole.
    const TILE: usize = 16;
    for tile in (0..columns).step_by(TILE) {
        for (r, row) in numbers.chunks_exact(columns.max(1)).enumerate().take(rows - first) {
            for (c, &number) in row.iter().enumerate().skip(tile).take(TILE) {
                transposed[c * rows + first + r] = number;
            }
        }
    }
}
