// The input side of a dense layer: row r of x is row r of the matrix.

fn read_x(row: u32, k: u32) -> f32 {
    let inside = row < params.rows && k < IN_FEATURES;
    return select(0.0, x[select(0u, (params.input_row + row) * IN_FEATURES + k, inside)], inside);
}
