// The gradient of the input of a layer normalization, and the normalized rows, from which that of its weight follows.
// Reference: src/reference/layer_norm.rs, which names the formula. One workgroup per row.

override FEATURES: u32;            // N
override EPS: f32;
override AFFINE: u32 = 0u;         // 1 where there is a weight
override ADD: u32 = 0u;            // 1 where the gradient is added to what is there
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [M, N]
@group(0) @binding(2) var<storage, read> weight: array<f32>;        // [N], if AFFINE
@group(0) @binding(3) var<storage, read> d_output: array<f32>;      // [M, N]
@group(0) @binding(4) var<storage, read_write> normal: array<f32>;  // [M, N]
@group(0) @binding(5) var<storage, read_write> d_x: array<f32>;     // [M, N]

var<workgroup> partial: array<vec2<f32>, WORKGROUP>;

// The means over the row of what every invocation has summed up.
fn row_means(sums: vec2<f32>, local: u32) -> vec2<f32> {
    workgroupBarrier();
    partial[local] = sums;
    workgroupBarrier();
    var total = vec2<f32>();
    for (var k = 0u; k < WORKGROUP; k++) {
        total += partial[k];
    }
    return total / f32(FEATURES);
}

fn scaled_gradient(at: u32, k: u32) -> f32 {
    if AFFINE == 1u {
        return d_output[at] * weight[k];
    }
    return d_output[at];
}

@compute @workgroup_size(WORKGROUP)
fn layer_norm_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let first = row * FEATURES;
    let width = select(0u, FEATURES, row < params.rows);
    var sums = vec2<f32>();
    for (var k = local; k < width; k += WORKGROUP) {
        sums.x += x[first + k];
    }
    let mean = row_means(sums, local).x;
    sums = vec2<f32>();
    for (var k = local; k < width; k += WORKGROUP) {
        let distance = x[first + k] - mean;
        sums.x += distance * distance;
    }
    let scale = 1.0 / sqrt(row_means(sums, local).x + EPS);
    sums = vec2<f32>();
    for (var k = local; k < width; k += WORKGROUP) {
        let a = scaled_gradient(first + k, k);
        let y = (x[first + k] - mean) * scale;
        normal[first + k] = y;
        sums += vec2<f32>(a, a * y);
    }
    let means = row_means(sums, local);
    for (var k = local; k < width; k += WORKGROUP) {
        let at = first + k;
        let value = scale * (scaled_gradient(at, k) - means.x - normal[at] * means.y);
        if ADD == 1u {
            d_x[at] += value;
        } else {
            d_x[at] = value;
        }
    }
}
