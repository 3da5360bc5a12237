// Derivatives of every elementwise function, for kernels that need one which derivatives_few.wgsl does not have.

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
        case AFFINE: { return alpha; }
        case LEAKY_RELU: { return select(1.0, alpha, x <= 0.0); }
        case THRESHOLDED_RELU: { return select(1.0, 0.0, x <= alpha); }
        case SCALED_TANH: { return alpha * beta * slope_of_tanh(beta * x); }
        case HARD_SIGMOID: {
            let y = alpha * x + beta;
            return select(alpha, 0.0, y <= 0.0 || y >= 1.0);
        }
        case ELU: { return select(1.0, alpha * exp(min(x, 0.0)), x <= 0.0); }
        case SOFTSIGN: {
            let divisor = 1.0 + abs(x);
            return 1.0 / (divisor * divisor);
        }
        case SOFTPLUS: { return sigmoid(x); }
        case SELU: { return 1.0507010 * select(1.0, 1.6732632 * exp(min(x, 0.0)), x <= 0.0); }
        case GELU: {
            // The normal distribution's density is exp(-x^2/2) / sqrt(2 pi).
            return 0.5 * (1.0 + error_function(x * 0.70710678)) + x * 0.39894228 * exp(-0.5 * x * x);
        }
        case GELU_TANH: {
            let argument = 0.7978846 * (x + 0.044715 * x * x * x);
            let slope = 0.7978846 * (1.0 + 0.134145 * x * x);
            return 0.5 * (1.0 + guarded_tanh(argument)) + 0.5 * x * slope_of_tanh(argument) * slope;
        }
        case SILU: { return sigmoid(x) * (1.0 + x * sigmoid(-x)); }
        case MISH: {
            let above = softplus(x);
            return guarded_tanh(above) + x * slope_of_tanh(above) * sigmoid(x);
        }
        case CLIP: { return select(1.0, 0.0, x < alpha || x > beta); }
        case EXP: { return exp(x); }
        case SQUARE: { return 2.0 * x; }
        case SQRT: { return 0.5 / sqrt(x); }
        case ABS: { return select(select(1.0, -1.0, x <= 0.0), 0.0, x == 0.0); }
        case HARD_SWISH: {
            let gate = x / 6.0 + 0.5;
            return select(clamp(gate, 0.0, 1.0) + x / 6.0, clamp(gate, 0.0, 1.0), gate <= 0.0 || gate >= 1.0);
        }
        case LOG: { return 1.0 / x; }
        case LINEAR_SIGMOID: { return select(1.0, sigmoid(x) * sigmoid(-x), x < 0.0); }
        case RECIPROCAL: { return -1.0 / (x * x); }
        default: { return 1.0; }
    }
}
