// The loss of a batch and its right answers, from those of its rows in their order. One workgroup.

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                   // rows = M
@group(0) @binding(1) var<storage, read> found: array<f32>;          // [M, 2]
@group(0) @binding(2) var<storage, read> settings: array<u32>;       // the place of the step among the results, ..
@group(0) @binding(3) var<storage, read_write> results: array<u32>;  // [steps, 4] the loss, right answers, norm, skipped

var<workgroup> losses: array<f32, WORKGROUP>;
var<workgroup> right: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn loss_sum(@builtin(local_invocation_index) local: u32) {
    var loss = 0.0;
    var count = 0u;
    for (var row = local; row < params.rows; row += WORKGROUP) {
        loss += found[2u * row];
        count += u32(found[2u * row + 1u]);
    }
    losses[local] = loss;
    right[local] = count;
    workgroupBarrier();
    if local == 0u {
        for (var k = 1u; k < WORKGROUP; k++) {
            loss += losses[k];
            count += right[k];
        }
        results[4u * settings[0]] = bitcast<u32>(loss);
        results[4u * settings[0] + 1u] = count;
        results[4u * settings[0] + 2u] = 0u;
        results[4u * settings[0] + 3u] = 0u;
    }
}
