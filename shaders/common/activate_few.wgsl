// The functions of a usual network. Drivers compile this several times faster than all of them.

fn activate(activation: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch activation {
        case RELU: { return select(x, 0.0, x < 0.0); }
        case TANH: { return guarded_tanh(x); }
        case SIGMOID: { return sigmoid(x); }
        default: { return x; }
    }
}
