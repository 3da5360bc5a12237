// Every elementwise function, for kernels that need one which activate_few.wgsl does not have.

// log(1 + exp(x)); the exponent is never positive.
fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(-abs(x)));
}

// exp(x) - 1 for x below 0; near 0, where that cancels, the Taylor series.
fn exp_minus_one(x: f32) -> f32 {
    let series = x * (1.0 + x * (1.0 / 2.0 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0)))));
    return select(exp(min(x, 0.0)) - 1.0, series, abs(x) < 0.1);
}

// Abramowitz & Stegun 7.1.26, within 1.5e-7.
fn error_function(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let polynomial =
        t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    let positive = 1.0 - polynomial * exp(-x * x);
    return select(positive, -positive, x < 0.0);
}

fn activate(activation: u32, alpha: f32, beta: f32, x: f32) -> f32 {
    switch activation {
        case RELU: { return select(x, 0.0, x < 0.0); }
        case TANH: { return guarded_tanh(x); }
        case SIGMOID: { return sigmoid(x); }
        case AFFINE: { return alpha * x + beta; }
        case LEAKY_RELU: { return select(x, alpha * x, x < 0.0); }
        case THRESHOLDED_RELU: { return select(x, 0.0, x <= alpha); }
        case SCALED_TANH: { return alpha * guarded_tanh(beta * x); }
        case HARD_SIGMOID: { return clamp(alpha * x + beta, 0.0, 1.0); }
        case ELU: { return select(x, alpha * exp_minus_one(x), x < 0.0); }
        case SOFTSIGN: { return x / (1.0 + abs(x)); }
        case SOFTPLUS: { return softplus(x); }
        case SELU: { return 1.0507010 * select(x, 1.6732632 * exp_minus_one(x), x < 0.0); }
        case GELU: { return 0.5 * x * (1.0 + error_function(x * 0.70710678)); }
        case GELU_TANH: {
            return 0.5 * x * (1.0 + guarded_tanh(0.7978846 * (x + 0.044715 * x * x * x)));
        }
        case SILU: { return x * sigmoid(x); }
        case MISH: { return x * guarded_tanh(softplus(x)); }
        case CLIP: { return clamp(x, alpha, beta); }
        case EXP: { return exp(x); }
        case SQUARE: { return x * x; }
        case SQRT: { return sqrt(x); }
        case ABS: { return abs(x); }
        case HARD_SWISH: { return x * clamp(x / 6.0 + 0.5, 0.0, 1.0); }
        case LOG: { return log(x); }
        case LINEAR_SIGMOID: { return select(x + 0.5, sigmoid(x), x < 0.0); }
        case RECIPROCAL: { return 1.0 / x; }
        default: { return x; }
    }
}
