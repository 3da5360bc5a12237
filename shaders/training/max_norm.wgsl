// Rows of a matrix that are longer than a bound are made so long, unless the step is left out. Reference:
// src/train/max_norm.rs. One workgroup per row.

override FEATURES: u32;            // numbers of a row
override CLIP_MAX: f32;            // the largest norm
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                // rows
@group(0) @binding(1) var<storage, read> norms: array<u32>;       // [1] whether the step is made
@group(0) @binding(2) var<storage, read_write> x: array<f32>;     // [rows, FEATURES]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn max_norm(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let first = row * FEATURES;
    let width = select(0u, FEATURES, row < params.rows && norms[1] != 0u);
    var sum = 0.0;
    for (var k = local; k < width; k += WORKGROUP) {
        sum += x[first + k] * x[first + k];
    }
    partial[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += partial[k];
    }
    let norm = sqrt(sum);
    if norm > CLIP_MAX {
        for (var k = local; k < width; k += WORKGROUP) {
            x[first + k] *= CLIP_MAX / norm;
        }
    }
}
