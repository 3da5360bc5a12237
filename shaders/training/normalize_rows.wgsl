// Normalizes rows in place: less their mean, times 1 / sqrt(variance + eps), which is kept. One workgroup per row.

override FEATURES: u32;            // N
override EPS: f32;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = M
@group(0) @binding(1) var<storage, read_write> x: array<f32>;       // [M, N]
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;  // [M]

var<workgroup> partial: array<f32, WORKGROUP>;

// The mean over the row of what every invocation has summed up.
fn row_mean(sum: f32, local: u32) -> f32 {
    workgroupBarrier();
    partial[local] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        total += partial[k];
    }
    return total / f32(FEATURES);
}

@compute @workgroup_size(WORKGROUP)
fn normalize_rows(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let first = row * FEATURES;
    let width = select(0u, FEATURES, row < params.rows);
    var sum = 0.0;
    for (var k = local; k < width; k += WORKGROUP) {
        sum += x[first + k];
    }
    let mean = row_mean(sum, local);
    sum = 0.0;
    for (var k = local; k < width; k += WORKGROUP) {
        let distance = x[first + k] - mean;
        sum += distance * distance;
    }
    let scale = 1.0 / sqrt(row_mean(sum, local) + EPS);
    for (var k = local; k < width; k += WORKGROUP) {
        x[first + k] = (x[first + k] - mean) * scale;
    }
    if local == 0u && width > 0u {
        scales[row] = scale;
    }
}
