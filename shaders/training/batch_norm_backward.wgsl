// The gradient of the input of a batch normalization. Rows that count have moved the statistics of the batch too.
// Reference: src/reference/batch_norm.rs.

override FEATURES: u32;         // N
override VARIANCE_FIRST: u32;   // where the variances lie; the count lies as far behind them
override TRAINED: u32 = 0u;     // 1 where the statistics are the batch's
override MASKED: u32 = 0u;      // 1 where only rows count that the mask has on
override ADD: u32 = 0u;         // 1 where it is added to what is there
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;               // rows = M
@group(0) @binding(1) var<storage, read> normal: array<f32>;     // [M, N] x less the mean, times 1 / sqrt(variance + eps)
@group(0) @binding(2) var<storage, read> d_output: array<f32>;   // [M, N]
@group(0) @binding(3) var<storage, read> channels: array<f32>;   // [3, N]: mean, scale, offset
@group(0) @binding(4) var<storage, read> sums: array<f32>;       // [2, N] of d_output * normal and of d_output
@group(0) @binding(5) var<storage, read> moments: array<f32>;    // .. the count of rows
@group(0) @binding(6) var<storage, read> mask: array<u32>;       // [M], if MASKED
@group(0) @binding(7) var<storage, read_write> d_x: array<f32>;  // [M, N]

@compute @workgroup_size(WORKGROUP)
fn batch_norm_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / FEATURES;
    if row >= params.rows {
        return;
    }
    let channel = index % FEATURES;
    var d = d_output[index];
    if TRAINED == 1u && (MASKED == 0u || (mask[row] & 1u) != 0u) {
        d -= (sums[FEATURES + channel] + normal[index] * sums[channel]) / moments[2u * VARIANCE_FIRST];
    }
    d *= channels[FEATURES + channel];
    if ADD == 1u {
        d_x[index] += d;
    } else {
        d_x[index] = d;
    }
}
