// The sum of the squares of each piece of the gradients. A piece lies in one tensor. One workgroup per piece.

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = pieces
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read> pieces: array<u32>;        // [pieces, 2] the first number, behind the last
@group(0) @binding(3) var<storage, read_write> output: array<f32>;  // [pieces]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn square_sums(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let piece = group.x + group.y * groups.x;
    var sum = 0.0;
    if piece < params.rows {
        for (var at = pieces[2u * piece] + local; at < pieces[2u * piece + 1u]; at += WORKGROUP) {
            sum += gradients[at] * gradients[at];
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    if local == 0u && piece < params.rows {
        var all = 0.0;
        for (var k = 0u; k < WORKGROUP; k++) {
            all += partial[k];
        }
        output[piece] = all;
    }
}
