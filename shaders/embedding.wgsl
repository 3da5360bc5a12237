// Row gather: output[r] = table[tokens[r]]. Reference: src/reference/embedding.rs.

override NUM_EMBEDDINGS: u32;  // V
override EMBEDDING_DIM: u32;   // E
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = T*B
@group(0) @binding(1) var<storage, read> tokens: array<u32>;            // [T, B]
@group(0) @binding(2) var<storage, read> table: array<f32>;             // [V, E]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;      // [T, B, E]

@compute @workgroup_size(WORKGROUP)
fn embedding(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / EMBEDDING_DIM;
    if row >= params.rows {
        return;
    }
    // The host refuses ids outside the table; the minimum keeps reads within bounds if the ids are in a caller's buffer.
    let token = min(tokens[params.input_row + row], NUM_EMBEDDINGS - 1u);
    output[params.output_row * EMBEDDING_DIM + index] = table[token * EMBEDDING_DIM + index % EMBEDDING_DIM];
}
