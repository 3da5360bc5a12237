// The gradients of the scores of attention from its shares and the gradient of its output: y (d - y.d) with d the products
// of that gradient with the values. Reference: src/reference/attention.rs. One workgroup per head of a query.

struct Sizes {
    rows: u32,     // T*B*heads
    first: u32,    // the first of them here
    batch: u32,    // B
    steps: u32,    // S
}

override FEATURES: u32;          // V
override HEADS: u32;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> y: array<f32>;              // [T, B, heads, S]
@group(0) @binding(2) var<storage, read> values: array<f32>;         // [S, B, V]
@group(0) @binding(3) var<storage, read> d_output: array<f32>;       // [T, B, V]
@group(0) @binding(4) var<storage, read_write> d_scores: array<f32>; // [T, B, heads, S]

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn attention_scores_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = params.first + group.x + group.y * groups.x;
    let live = row < params.rows;
    let query = row / HEADS;
    let batch_row = query % params.batch;
    let width = FEATURES / HEADS;
    let first = row % HEADS * width;

    var sum = 0.0;
    for (var s = local; s < params.steps; s += WORKGROUP) {
        if live {
            let key = s * params.batch + batch_row;
            var d = 0.0;
            for (var unit = first; unit < first + width; unit++) {
                d += d_output[query * FEATURES + unit] * values[key * FEATURES + unit];
            }
            let at = row * params.steps + s;
            d_scores[at] = d;
            if y[at] != 0.0 {
                sum += y[at] * d;
            }
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    var mean = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        mean += partial[k];
    }
    for (var s = local; s < params.steps; s += WORKGROUP) {
        if live {
            let at = row * params.steps + s;
            d_scores[at] = select(y[at] * (d_scores[at] - mean), 0.0, y[at] == 0.0);
        }
    }
}
