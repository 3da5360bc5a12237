// Moves stored statistics towards those of a batch, unless the step is left out. Reference: src/train/batch_norm.rs.

override FEATURES: u32;             // N
override VARIANCE_FIRST: u32;       // where the variances lie; the count lies as far behind them
override MOMENTUM: f32;             // the share of the batch
override UNBIASED: u32 = 0u;        // 1 where the variance is stored divided by the count less 1
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> moments: array<f32>;       // means [N], .. variances [N], .. count
@group(0) @binding(2) var<storage, read> norms: array<u32>;         // [1] whether the step is made
@group(0) @binding(3) var<storage, read_write> stored: array<f32>;  // means [N], .. variances [N]

@compute @workgroup_size(WORKGROUP)
fn running_statistics(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let channel = group.x * WORKGROUP + local;
    let count = moments[2u * VARIANCE_FIRST];
    if channel >= FEATURES || norms[1] == 0u || count == 0.0 {
        return;
    }
    var factor = 1.0;
    if UNBIASED == 1u && count > 1.0 {
        factor = count / (count - 1.0);
    }
    stored[channel] += MOMENTUM * (moments[channel] - stored[channel]);
    let at = VARIANCE_FIRST + channel;
    stored[at] += MOMENTUM * (moments[at] * factor - stored[at]);
}
