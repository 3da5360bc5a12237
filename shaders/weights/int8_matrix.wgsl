// A matrix [K, N] of 8-bit integers with a scale per column: a word holds four k of a column, each as the integer + 128.

fn weight_at(k: u32, column: u32) -> f32 {
    let word = w[k / 4u * OUT_FEATURES + column];
    return f32((word >> (8u * (k % 4u))) & 255u) - 128.0;
}

fn scaled(sum: f32, column: u32) -> f32 {
    return sum * scale[column];
}
