// Derivatives of the elementwise functions that most layers use. Reference: src/reference/derivatives.rs.

fn slope_of_tanh(x: f32) -> f32 {
    let y = guarded_tanh(x);
    return 1.0 - y * y;
}

// The derivative at x; at a kink as the reference says.
fn derivative(activation: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch activation {
        case RELU: { return select(1.0, 0.0, x <= 0.0); }
        case TANH: { return slope_of_tanh(x); }
        case SIGMOID: { return sigmoid(x) * sigmoid(-x); }
        default: { return 1.0; }
    }
}
