// Reference: src/reference/activations.rs. The numbers are those of src/plan/constants.rs.
// The built-in tanh is never used: WGSL leaves it indeterminate at large |x| (NaN on Metal).

const LINEAR: u32 = 0u;
const RELU: u32 = 1u;
const TANH: u32 = 2u;
const SIGMOID: u32 = 3u;
const AFFINE: u32 = 4u;
const LEAKY_RELU: u32 = 5u;
const THRESHOLDED_RELU: u32 = 6u;
const SCALED_TANH: u32 = 7u;
const HARD_SIGMOID: u32 = 8u;
const ELU: u32 = 9u;
const SOFTSIGN: u32 = 10u;
const SOFTPLUS: u32 = 11u;
const SELU: u32 = 12u;
const GELU: u32 = 13u;
const GELU_TANH: u32 = 14u;
const SILU: u32 = 15u;
const MISH: u32 = 16u;
const CLIP: u32 = 17u;
const EXP: u32 = 18u;
const SQUARE: u32 = 19u;
const SQRT: u32 = 20u;
const ABS: u32 = 21u;
const HARD_SWISH: u32 = 22u;
const LOG: u32 = 23u;
const LINEAR_SIGMOID: u32 = 24u;
const RECIPROCAL: u32 = 25u;

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

// x within ±bound, unless bound is 0.
fn bounded(bound: f32, x: f32) -> f32 {
    return select(x, clamp(x, -bound, bound), bound > 0.0);
}
