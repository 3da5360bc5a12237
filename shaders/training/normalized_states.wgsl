// c between the timesteps of a layer-normalized LSTM, from the normalized sums of an interval of T'. Reference:
// src/reference/normalized.rs. A workgroup goes through the timesteps of one row of one lane.

struct Sizes {
    batch: u32,   // B
    steps: u32,   // T'
    first: u32,   // step to begin with
    end: u32,     // behind the last
    origin: u32,  // timestep with which the interval begins
}

const GATES: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> normal: array<f32>;     // [parts, LANES, T', B, 4H] normalized sums
@group(0) @binding(2) var<storage, read> vectors: array<f32>;    // weights and biases of the normalizations
@group(0) @binding(3) var<storage, read> initial: array<f32>;    // [LANES, B, H] before the interval
@group(0) @binding(4) var<storage, read> mask: array<u32>;       // [T, B], if MASKED
@group(0) @binding(5) var<storage, read_write> c: array<f32>;    // [LANES, T' + 1, B, H] before t, in order of time

fn c_index(lane: u32, at: u32, row: u32) -> u32 {
    return ((lane * (params.steps + 1u) + at) * params.batch + row) * WIDTH;
}

@compute @workgroup_size(WORKGROUP)
fn normalized_states(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = group.y;
    let lane = group.z;
    let reverse = ((REVERSE >> lane) & 1u) == 1u;
    for (var step = params.first; step < params.end; step++) {
        let time = select(step, params.steps - 1u - step, reverse);
        // A reverse lane goes from behind the timestep to before it.
        let before = c_index(lane, select(time, time + 1u, reverse), row);
        let after = c_index(lane, select(time + 1u, time, reverse), row);
        let sums = ((lane * params.steps + time) * params.batch + row) * 4u * WIDTH;
        let masked = MASKED != 0u && (mask[(params.origin + time) * params.batch + row] & 1u) == 0u;
        var total = 0.0;
        for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
            if step == 0u {
                c[before + unit] = initial[(lane * params.batch + row) * WIDTH + unit];
            }
            var value = c[before + unit];
            if !masked {
                let i = activate(GATE, GATE_ALPHA, GATE_BETA, sum_of(sums, lane, 0u, unit));
                let f = activate(GATE, GATE_ALPHA, GATE_BETA, sum_of(sums, lane, 1u, unit));
                let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, sum_of(sums, lane, 2u, unit));
                value = f * value + i * g;
            }
            c[after + unit] = value;
            total += value;
        }
        if NORM_CELL == NORM_STATE {
            let mean = row_sums(vec4<f32>(total), local).x / f32(WIDTH);
            total = 0.0;
            for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
                let distance = c[after + unit] - mean;
                total += distance * distance;
            }
            let scale = 1.0 / sqrt(row_sums(vec4<f32>(total), local).x / f32(WIDTH) + EPS);
            for (var unit = local; unit < WIDTH; unit += WORKGROUP) {
                if !masked {
                    c[after + unit] = (c[after + unit] - mean) * scale * vectors[vector(lane, NORM_C_WEIGHT) + unit]
                        + vectors[vector(lane, NORM_C_BIAS) + unit];
                }
            }
        }
    }
}
