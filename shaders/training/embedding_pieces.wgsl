// The gradient of an embedding, first part: the sum over each piece of the steps that read one row of the table. The
// host sorts the steps by row and cuts long runs into pieces, so that no atomics are needed and sums have one order.

struct Sizes {
    width: u32,    // E
    steps: u32,    // T*B, and the offset of the pieces behind the order
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> lookup: array<u32>;        // pieces, rows, order [T*B], starts of pieces [T*B + 1], ..
@group(0) @binding(2) var<storage, read> d_output: array<f32>;      // [T*B, E]
@group(0) @binding(3) var<storage, read_write> pieces: array<f32>;  // [pieces, E]

@compute @workgroup_size(WORKGROUP)
fn embedding_pieces(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let piece = index / params.width;
    if piece >= lookup[0] {
        return;
    }
    let starts = 2u + params.steps + piece;
    var sum = 0.0;
    for (var at = lookup[starts]; at < lookup[starts + 1u]; at++) {
        sum += d_output[lookup[2u + at] * params.width + index % params.width];
    }
    pieces[index] = sum;
}
