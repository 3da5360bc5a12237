// One step of an optimizer over all parameters. Reference: src/reference/optimizer.rs, which names the formulas.

override RULE: u32 = 0u;              // SGD, ADAM, RMSPROP or ADAGRAD
override KERAS: u32 = 0u;             // 1 for Keras' formula where it differs from PyTorch's
override BETA1: f32 = 0.0;            // of Adam; else the momentum
override NEW1: f32 = 0.0;             // 1 - BETA1
override BETA2: f32 = 0.0;            // of Adam; else rho
override NEW2: f32 = 0.0;             // 1 - BETA2
override OPTIMIZER_EPS: f32 = 0.0;
override NESTEROV: u32 = 0u;
override CENTERED: u32 = 0u;
override WEIGHT_DECAY: f32 = 0.0;
override L2: f32 = 0.0;
override CLIP: u32 = 0u;              // NO_CLIP, GLOBAL_NORM, TENSOR_NORM or VALUE
override CLIP_KERAS: u32 = 0u;
override CLIP_MAX: f32 = 0.0;
override COUNT: u32;                  // parameters
override V_FIRST: u32 = 0u;            // where the mean or the sum of squares begins
override MEAN_FIRST: u32 = 0u;         // where RMSprop's mean begins
override CORRECTIONS: u32 = 1u;       // steps that have corrections of their own
override WORKGROUP: u32 = 64u;

const SGD: u32 = 0u;
const ADAM: u32 = 1u;
const RMSPROP: u32 = 2u;
const ADAGRAD: u32 = 3u;

const NO_CLIP: u32 = 0u;
const GLOBAL_NORM: u32 = 1u;
const TENSOR_NORM: u32 = 2u;
const VALUE: u32 = 3u;

// Bits of a segment's flags.
const FROZEN: u32 = 1u;
const DECAYS: u32 = 2u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> settings: array<u32>;       // [1] the bits of the learning rate
@group(0) @binding(2) var<storage, read> corrections: array<f32>;    // [steps, 2] sqrt(c2) / c1 and sqrt(c2)
@group(0) @binding(3) var<storage, read> segments: array<u32>;       // of 64 parameters: flags, tensor
@group(0) @binding(4) var<storage, read> gradients: array<f32>;
@group(0) @binding(5) var<storage, read> norms: array<u32>;          // as norms.wgsl leaves them
@group(0) @binding(6) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(7) var<storage, read_write> moments: array<f32>;  // m, v, mean, [COUNT] each that is kept

// What the gradient of a tensor is multiplied by.
fn clip_factor(tensor: u32) -> f32 {
    if CLIP != GLOBAL_NORM && CLIP != TENSOR_NORM {
        return 1.0;
    }
    let norm = bitcast<f32>(norms[select(2u, 3u + tensor, CLIP == TENSOR_NORM)]);
    if CLIP_KERAS == 0u {
        return min(1.0, CLIP_MAX / (norm + 1e-6));
    }
    return select(1.0, CLIP_MAX / norm, norm > CLIP_MAX);
}

fn divisor(square: f32, eps: f32) -> f32 {
    if KERAS == 1u {
        return sqrt(square + eps);
    }
    return sqrt(square) + eps;
}

@compute @workgroup_size(WORKGROUP)
fn optimizer_step(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let at = (group.x + group.y * groups.x) * WORKGROUP + local;
    if at >= COUNT || norms[1] == 0u {
        return;
    }
    let flags = segments[2u * (at / 64u)];
    if (flags & FROZEN) != 0u {
        return;
    }
    let decays = (flags & DECAYS) != 0u;
    let learning_rate = bitcast<f32>(settings[1]);
    var p = parameters[at];
    var g = gradients[at] * clip_factor(segments[2u * (at / 64u) + 1u]);
    if CLIP == VALUE {
        g = clamp(g, -CLIP_MAX, CLIP_MAX);
    }
    if decays {
        g += L2 * p;
        p *= 1.0 - learning_rate * WEIGHT_DECAY;
    }
    // Where the learning rate is multiplied: before the momentum, or behind it.
    let inside = select(1.0, learning_rate, KERAS == 1u);
    let outside = select(learning_rate, 1.0, KERAS == 1u);
    if RULE == SGD {
        if BETA1 == 0.0 {
            p -= learning_rate * g;
        } else {
            let m = BETA1 * moments[at] + inside * g;
            moments[at] = m;
            p -= outside * select(m, inside * g + BETA1 * m, NESTEROV == 1u);
        }
    } else if RULE == ADAM {
        let step = 2u * min(norms[0] - 1u, CORRECTIONS - 1u);
        let m = moments[at] + (g - moments[at]) * NEW1;
        let v = BETA2 * moments[V_FIRST + at] + NEW2 * g * g;
        moments[at] = m;
        moments[V_FIRST + at] = v;
        let eps = OPTIMIZER_EPS * select(corrections[step + 1u], 1.0, KERAS == 1u);
        p -= learning_rate * corrections[step] * m / (sqrt(v) + eps);
    } else if RULE == RMSPROP {
        let v = BETA2 * moments[V_FIRST + at] + NEW2 * g * g;
        moments[V_FIRST + at] = v;
        var square = v;
        if CENTERED == 1u {
            let mean = moments[MEAN_FIRST + at] + (g - moments[MEAN_FIRST + at]) * NEW2;
            moments[MEAN_FIRST + at] = mean;
            // Rounding may bring it below 0, where there is no root.
            square = max(v - mean * mean, 0.0);
        }
        let quotient = g / divisor(square, OPTIMIZER_EPS);
        if BETA1 == 0.0 {
            p -= learning_rate * quotient;
        } else {
            let m = BETA1 * moments[at] + inside * quotient;
            moments[at] = m;
            p -= outside * m;
        }
    } else {
        let v = moments[V_FIRST + at] + g * g;
        moments[V_FIRST + at] = v;
        p -= learning_rate * g / divisor(v, OPTIMIZER_EPS);
    }
    parameters[at] = p;
}
