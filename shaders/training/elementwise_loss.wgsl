// Losses that are means over the numbers of a row, and their gradients. Reference: src/reference/loss.rs.
// One workgroup per row.

override FEATURES: u32;           // N
override LOSS: u32 = 0u;          // BINARY, MSE, MAE or HUBER
override VALUES: u32 = 1u;        // 0 where targets are classes 0 and 1
override SMOOTHING: f32 = 0.0;    // of BINARY
override DELTA: f32 = 1.0;        // of HUBER
override CLASS_WEIGHTS: u32 = 0u; // 1 where the two classes of BINARY have weights
override WORKGROUP: u32 = 64u;

const BINARY: u32 = 0u;
const MSE: u32 = 1u;
const MAE: u32 = 2u;
const HUBER: u32 = 3u;

@group(0) @binding(0) var<uniform> params: Params;                   // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [M, N]
@group(0) @binding(2) var<storage, read> targets: array<u32>;        // [M, N] classes, or the bits of numbers
@group(0) @binding(3) var<storage, read> factors: array<f32>;        // [M] the row's weight, divided as the loss is
@group(0) @binding(4) var<storage, read> class_weights: array<f32>;  // [2]
@group(0) @binding(5) var<storage, read_write> d: array<f32>;        // [M, N]
@group(0) @binding(6) var<storage, read_write> found: array<f32>;    // [M, 2] the row's part of the loss, right answers

var<workgroup> partial: array<vec2<f32>, WORKGROUP>;

fn log_of_one_more(z: f32) -> f32 {
    // log(1 + exp(z)); near 0 of exp(z) the series, since 1 + e rounds.
    let e = exp(-abs(z));
    let series = e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * 0.25)));
    return max(z, 0.0) + select(log(1.0 + e), series, e < 0.02);
}

fn probability(z: f32) -> f32 {
    let e = exp(-abs(z));
    let positive = 1.0 / (1.0 + e);
    return select(positive, e * positive, z < 0.0);
}

@compute @workgroup_size(WORKGROUP)
fn elementwise_loss(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    let factor = factors[row];
    var weights = vec2<f32>(1.0);
    if CLASS_WEIGHTS == 1u {
        weights = vec2<f32>(class_weights[0], class_weights[1]);
    }
    // The loss, and right answers.
    var sums = vec2<f32>();
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if k < FEATURES {
            let at = row * FEATURES + k;
            let z = x[at];
            var y = bitcast<f32>(targets[at]);
            if VALUES == 0u {
                y = f32(targets[at]);
            }
            var value = 0.0;
            var slope = 0.0;
            if LOSS == BINARY {
                let one = weights.y * ((1.0 - SMOOTHING) * y + SMOOTHING * 0.5);
                let other = weights.x * ((1.0 - SMOOTHING) * (1.0 - y) + SMOOTHING * 0.5);
                value = one * log_of_one_more(-z) + other * log_of_one_more(z);
                slope = other * probability(z) - one * probability(-z);
                sums.y += select(0.0, 1.0, (z > 0.0) == (y > 0.5));
            } else {
                let error = z - y;
                let far = abs(error);
                // 0 of 0; NaN stays NaN.
                let side = select(select(error, -1.0, error < 0.0), 1.0, error > 0.0);
                if LOSS == MAE {
                    value = far;
                    slope = side;
                } else if LOSS == HUBER && far > DELTA {
                    value = DELTA * (far - 0.5 * DELTA);
                    slope = DELTA * side;
                } else if LOSS == HUBER {
                    value = 0.5 * error * error;
                    slope = error;
                } else {
                    value = error * error;
                    slope = error + error;
                }
            }
            sums.x += value;
            // Nothing of a row without weight is looked at.
            d[at] = select(slope / f32(FEATURES) * factor, 0.0, factor == 0.0);
        }
    }
    partial[local] = sums;
    workgroupBarrier();
    if local == 0u {
        var all = vec2<f32>();
        for (var k = 0u; k < WORKGROUP; k++) {
            all += partial[k];
        }
        all.x = all.x / f32(FEATURES) * factor;
        all = select(all, vec2<f32>(), factor == 0.0);
        found[2u * row] = all.x;
        found[2u * row + 1u] = all.y;
    }
}
