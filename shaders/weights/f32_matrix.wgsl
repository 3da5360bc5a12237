// A matrix [K, N] of f32.

fn weight_at(k: u32, column: u32) -> f32 {
    return bitcast<f32>(w[k * OUT_FEATURES + column]);
}

fn scaled(sum: f32, column: u32) -> f32 {
    return sum;
}
