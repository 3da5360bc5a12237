// The gradient of an embedding, second part: each row of the table that was read is the sum of its pieces. Rows that were
// not read are cleared before.

struct Sizes {
    width: u32,    // E
    steps: u32,    // T*B
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> lookup: array<u32>;        // .., rows [T*B], first pieces of rows [T*B + 1]
@group(0) @binding(2) var<storage, read> pieces: array<f32>;        // [pieces, E]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;  // [V, E]

@compute @workgroup_size(WORKGROUP)
fn embedding_rows(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / params.width;
    if row >= lookup[1] {
        return;
    }
    let rows = 3u + 2u * params.steps;
    let first = rows + params.steps + row;
    let column = index % params.width;
    var sum = 0.0;
    for (var piece = lookup[first]; piece < lookup[first + 1u]; piece++) {
        sum += pieces[piece * params.width + column];
    }
    output[lookup[rows + row] * params.width + column] = sum;
}
