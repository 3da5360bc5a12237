// (x - mean) / sqrt(var + eps) * weight + bias over every row, with the row's own mean and
// variance (Ba, Kiros & Hinton 2016). Reference: src/reference/layer_norm.rs. One workgroup per row.

override FEATURES: u32;  // N
override EPS: f32;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [M, N]
@group(0) @binding(2) var<storage, read> weight: array<f32>;            // [N]
@group(0) @binding(3) var<storage, read> bias: array<f32>;              // [N]
@group(0) @binding(4) var<storage, read_write> output: array<f32>;      // [M, N]

var<workgroup> partial: array<f32, WORKGROUP>;

// The mean over the row of what every invocation has summed up.
fn row_mean(sum: f32, local: u32) -> f32 {
    partial[local] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        total += partial[k];
    }
    workgroupBarrier();
    return total / f32(FEATURES);
}

@compute @workgroup_size(WORKGROUP)
fn layer_norm(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let live = row < params.rows;
    let read_at = (params.input_row + row) * FEATURES;
    let write_at = (params.output_row + row) * FEATURES;

    var sum = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        if live && k0 + local < FEATURES {
            sum += x[read_at + k0 + local];
        }
    }
    let mean = row_mean(sum, local);

    var squares = 0.0;
    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        if live && k0 + local < FEATURES {
            let distance = x[read_at + k0 + local] - mean;
            squares += distance * distance;
        }
    }
    let scale = 1.0 / sqrt(row_mean(squares, local) + EPS);

    for (var k0 = 0u; k0 < FEATURES; k0 += WORKGROUP) {
        let k = k0 + local;
        if live && k < FEATURES {
            output[write_at + k] = (x[read_at + k] - mean) * scale * weight[k] + bias[k];
        }
    }
}
