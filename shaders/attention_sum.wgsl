// Sums of rows with the shares of attention, or with the gradients of its scores: its output, and the gradients of what it
// reads. Reference: src/reference/attention.rs. One invocation per number.

struct Sizes {
    rows: u32,     // rows of the output: timesteps * B
    first: u32,    // the first of them here
    batch: u32,    // B
    others: u32,   // timesteps that are summed
    steps: u32,    // S
}

override FEATURES: u32;          // width of the output
override HEADS: u32;
override HOW: u32 = 0u;          // what is summed: 0 the other rows, 1 w (1 - tanh(own + other)^2), 2 tanh(own + other)
override SCALE: f32 = 1.0;
override TURNED: u32 = 0u;       // 0: the output has the rows of the queries, 1: those of the keys
override ADD: u32 = 0u;          // 1 where it is added to what is there
override BANKED: u32 = 0u;       // 1 where the rows that are summed lie side by side in banks, one for each batch row
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> shares: array<f32>;         // [T, B, heads, S]
@group(0) @binding(2) var<storage, read> x: array<f32>;              // [others, B, N], BANKED [R, N]
@group(0) @binding(3) var<storage, read> own: array<f32>;            // [rows, N], if HOW > 0
@group(0) @binding(4) var<storage, read> weight: array<f32>;         // [N], if HOW = 1
@group(0) @binding(5) var<storage, read> banks: array<u32>;          // [B, 2], if BANKED: first row and how many
@group(0) @binding(6) var<storage, read_write> output: array<f32>;   // [rows, N]

@compute @workgroup_size(WORKGROUP)
fn attention_sum(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = params.first + index / FEATURES;
    if row >= params.rows {
        return;
    }
    let column = index % FEATURES;
    let head = column / (FEATURES / HEADS);
    let step = row / params.batch;
    let batch_row = row % params.batch;
    let at = row * FEATURES + column;
    var sum = 0.0;
    var others = params.others;
    if BANKED == 1u {
        others = banks[2u * batch_row + 1u];
    }
    for (var other = 0u; other < others; other++) {
        var row_of_x = other * params.batch + batch_row;
        if BANKED == 1u {
            row_of_x = banks[2u * batch_row] + other;
        }
        var share = 0.0;
        if TURNED == 1u {
            share = shares[(row_of_x * HEADS + head) * params.steps + step];
        } else {
            share = shares[(row * HEADS + head) * params.steps + other];
        }
        if share == 0.0 {
            continue;
        }
        var value = x[row_of_x * FEATURES + column];
        if HOW > 0u {
            value = guarded_tanh(own[at] + value);
            if HOW == 1u {
                value = weight[column] * (1.0 - value * value);
            }
        }
        sum += share * value;
    }
    sum *= SCALE;
    if ADD == 1u {
        sum += output[at];
    }
    output[at] = sum;
}
