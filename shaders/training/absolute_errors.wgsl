// Sums of |x - target| of every row that counts, and whether it counts. One workgroup per row. Reference:
// src/reference/metrics.rs.

override FEATURES: u32;           // N
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                   // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [M, N]
@group(0) @binding(2) var<storage, read> targets: array<u32>;        // [M, N] the bits of numbers
@group(0) @binding(3) var<storage, read> factors: array<f32>;        // [M] a row whose factor is 0 does not count
@group(0) @binding(4) var<storage, read_write> found: array<f32>;    // [M, 2]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn absolute_errors(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    if row >= params.rows {
        return;
    }
    var sum = 0.0;
    for (var k = local; k < FEATURES; k += WORKGROUP) {
        let at = row * FEATURES + k;
        sum += abs(x[at] - bitcast<f32>(targets[at]));
    }
    partial[local] = sum;
    workgroupBarrier();
    if local == 0u {
        for (var k = 1u; k < WORKGROUP; k++) {
            sum += partial[k];
        }
        let counts = factors[row] != 0.0;
        found[2u * row] = select(0.0, sum, counts);
        found[2u * row + 1u] = select(0.0, 1.0, counts);
    }
}
