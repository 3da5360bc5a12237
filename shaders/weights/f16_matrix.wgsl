// A matrix [K, N] of f16: a word holds two k of a column.

fn weight_at(k: u32, column: u32) -> f32 {
    let pair = unpack2x16float(w[k / 2u * OUT_FEATURES + column]);
    return select(pair.x, pair.y, k % 2u == 1u);
}

fn scaled(sum: f32, column: u32) -> f32 {
    return sum;
}
