// Mean, scale and offset of every channel, as channelwise.wgsl reads them, from statistics and parameters. Reference:
// src/reference/batch_norm.rs.

override FEATURES: u32;             // N
override VARIANCE_FIRST: u32;       // where the variances lie
override EPS: f32;
override AFFINE: u32 = 0u;          // 1 where there is a weight
override BIASED: u32 = 0u;          // 1 where there is a bias
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> moments: array<f32>;         // means [N], .. variances [N], ..
@group(0) @binding(2) var<storage, read> weight: array<f32>;          // [N], if AFFINE
@group(0) @binding(3) var<storage, read> bias: array<f32>;            // [N], if BIASED
@group(0) @binding(4) var<storage, read_write> channels: array<f32>;  // [3, N]: mean, scale, offset

@compute @workgroup_size(WORKGROUP)
fn batch_norm_channels(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let channel = group.x * WORKGROUP + local;
    if channel >= FEATURES {
        return;
    }
    var scale = 1.0 / sqrt(moments[VARIANCE_FIRST + channel] + EPS);
    var offset = 0.0;
    if AFFINE == 1u {
        scale *= weight[channel];
    }
    if BIASED == 1u {
        offset = bias[channel];
    }
    channels[channel] = moments[channel];
    channels[FEATURES + channel] = scale;
    channels[2u * FEATURES + channel] = offset;
}
