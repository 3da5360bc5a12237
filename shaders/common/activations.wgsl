// Twin: src/reference/activations.rs.
// The built-in tanh is never used: WGSL leaves it indeterminate at large |x| (NaN on Metal).

const LINEAR: u32 = 0u;
const RELU: u32 = 1u;
const TANH: u32 = 2u;
const SIGMOID: u32 = 3u;

// 1 / (1 + exp(-x)); the exponent is never positive, so nothing overflows.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    let positive = 1.0 / (1.0 + e);
    return select(positive, e * positive, x < 0.0);
}

// (1 - exp(-2|x|)) / (1 + exp(-2|x|)) with x's sign; near 0, where that cancels, the Taylor series.
fn guarded_tanh(x: f32) -> f32 {
    let e = exp(-2.0 * abs(x));
    let far = (1.0 - e) / (1.0 + e);
    let s = x * x;
    let series = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
    return select(select(far, -far, x < 0.0), series, abs(x) < 0.3);
}

fn activate(activation: u32, x: f32) -> f32 {
    switch activation {
        case RELU: { return select(x, 0.0, x < 0.0); }
        case TANH: { return guarded_tanh(x); }
        case SIGMOID: { return sigmoid(x); }
        default: { return x; }
    }
}
