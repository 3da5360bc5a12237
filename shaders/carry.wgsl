// Rows of words from one place to another, between the steps of a loop: an input of a step, its output, what is fed back.
// Reference: src/host/step_loop.rs. One invocation per word.

override FEATURES: u32;            // words of a row
override MASKED: u32 = 0u;         // 1 where rows stay as they are that the mask leaves out
override WITHIN: u32 = 0u;         // 1 where both places are in one buffer, which is bound as the output
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = B; steps = first row of the mask
@group(0) @binding(1) var<storage, read> source: array<u32>;            // [.., B, N], from input_row on, unless WITHIN
@group(0) @binding(2) var<storage, read> mask: array<u32>;              // [T, B], if MASKED
@group(0) @binding(3) var<storage, read_write> output: array<u32>;      // [.., B, N], from output_row on

@compute @workgroup_size(WORKGROUP)
fn carry(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / FEATURES;
    if row >= params.rows {
        return;
    }
    if MASKED == 1u {
        if (mask[params.steps + row] & 1u) == 0u {
            return;
        }
    }
    let column = index % FEATURES;
    let input = (params.input_row + row) * FEATURES + column;
    var word = 0u;
    if WITHIN == 1u {
        word = output[input];
    } else {
        word = source[input];
    }
    output[(params.output_row + row) * FEATURES + column] = word;
}
