// The shares that every query gives the timesteps of the keys: a softmax of the scores of a query with all keys.
// Reference: src/reference/attention.rs. One workgroup per head of a query.

struct Sizes {
    rows: u32,     // T*B*heads
    first: u32,    // the first of them here
    batch: u32,    // B
    steps: u32,    // S
}

override FEATURES: u32;          // D
override HEADS: u32;
override ADDITIVE: u32 = 0u;     // 1: w·tanh(q + k), else q·k
override SCALE: f32 = 1.0;
override MASKED: u32 = 0u;       // 1 where only keys count that the mask has on
override BANKED: u32 = 0u;       // 1 where the keys of a batch row lie side by side in banks
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> keys: array<f32>;           // [S, B, D], BANKED [R, D]
@group(0) @binding(2) var<storage, read> queries: array<f32>;        // [T, B, D]
@group(0) @binding(3) var<storage, read> weight: array<f32>;         // [D], if ADDITIVE
@group(0) @binding(4) var<storage, read> mask: array<u32>;           // [S, B], BANKED [R]; if MASKED
@group(0) @binding(5) var<storage, read> banks: array<u32>;          // [B, 2], if BANKED: first key and how many
@group(0) @binding(6) var<storage, read_write> output: array<f32>;   // [T, B, heads, S]

var<workgroup> partial: array<f32, WORKGROUP>;

// The row of a key of a batch row.
fn key_at(s: u32, batch_row: u32) -> u32 {
    if BANKED == 1u {
        return banks[2u * batch_row] + s;
    }
    return s * params.batch + batch_row;
}

fn counts(s: u32, batch_row: u32) -> bool {
    if BANKED == 1u {
        if s >= banks[2u * batch_row + 1u] {
            return false;
        }
    }
    if MASKED == 0u {
        return true;
    }
    return (mask[key_at(s, batch_row)] & 1u) != 0u;
}

fn score(query: u32, key: u32, first: u32) -> f32 {
    var sum = 0.0;
    for (var unit = first; unit < first + FEATURES / HEADS; unit++) {
        let q = queries[query * FEATURES + unit];
        let k = keys[key * FEATURES + unit];
        if ADDITIVE == 1u {
            sum += weight[unit] * guarded_tanh(q + k);
        } else {
            sum += q * k;
        }
    }
    return sum * SCALE;
}

@compute @workgroup_size(WORKGROUP)
fn attention_shares(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = params.first + group.x + group.y * groups.x;
    let live = row < params.rows;
    let query = row / HEADS;
    let batch_row = query % params.batch;
    let first = row % HEADS * (FEATURES / HEADS);

    var highest = -3.4028234e38;
    for (var s = local; s < params.steps; s += WORKGROUP) {
        if live && counts(s, batch_row) {
            let value = score(query, key_at(s, batch_row), first);
            output[row * params.steps + s] = value;
            highest = max(highest, value);
        }
    }
    partial[local] = highest;
    workgroupBarrier();
    for (var k = 0u; k < WORKGROUP; k++) {
        highest = max(highest, partial[k]);
    }
    workgroupBarrier();

    var sum = 0.0;
    for (var s = local; s < params.steps; s += WORKGROUP) {
        if live && counts(s, batch_row) {
            let value = exp(output[row * params.steps + s] - highest);
            output[row * params.steps + s] = value;
            sum += value;
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var k = 0u; k < WORKGROUP; k++) {
        sum += partial[k];
    }

    for (var s = local; s < params.steps; s += WORKGROUP) {
        if live {
            let at = row * params.steps + s;
            if counts(s, batch_row) {
                output[at] /= sum;
            } else {
                output[at] = 0.0;
            }
        }
    }
}
