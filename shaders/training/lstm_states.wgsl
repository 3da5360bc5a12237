// c between the timesteps of an LSTM, and h before its projection, from the pre-activations of all timesteps. An
// invocation goes through all timesteps of one unit of one row.

override WIDTH: u32;                 // H
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;          // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;           // 0 where no step is masked
override KEEP_H: u32 = 0u;           // 1 where h before a projection is kept
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                // rows = B
@group(0) @binding(1) var<storage, read> sums: array<f32>;        // [LANES, T, B, 4H]
@group(0) @binding(2) var<storage, read> parameters: array<f32>;  // all of the network
@group(0) @binding(3) var<storage, read> initial: array<f32>;     // [LANES, B, H]
@group(0) @binding(4) var<storage, read> mask: array<u32>;        // [T, B], if MASKED
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [LANES, T + 1, B, H] before t, in order of time
@group(0) @binding(6) var<storage, read_write> h: array<f32>;     // [LANES, T, B, H], if KEEP_H

fn c_index(lane: u32, at: u32, row: u32, unit: u32) -> u32 {
    return ((lane * (params.steps + 1u) + at) * params.rows + row) * WIDTH + unit;
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

@compute @workgroup_size(WORKGROUP)
fn lstm_states(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / WIDTH;
    if row >= params.rows {
        return;
    }
    let unit = index % WIDTH;
    let lane = group.z;
    let reverse = ((REVERSE >> lane) & 1u) == 1u;
    let peep = vec3<f32>(peephole(lane, 0u, unit), peephole(lane, 1u, unit), peephole(lane, 2u, unit));
    var state = initial[(lane * params.rows + row) * WIDTH + unit];
    for (var step = 0u; step < params.steps; step++) {
        let time = select(step, params.steps - 1u - step, reverse);
        c[c_index(lane, select(time, time + 1u, reverse), row, unit)] = state;
        let at = ((lane * params.steps + time) * params.rows + row) * (4u * WIDTH) + unit;
        let i = gate(sums[at] + peep.x * state);
        var f = 1.0 - i;
        if COUPLED == 0u {
            f = gate(sums[at + WIDTH] + peep.y * state);
        }
        let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, sums[at + 2u * WIDTH]));
        let after = bounded(CLIP_CELL, f * state + i * g);
        if MASKED == 0u || (mask[time * params.rows + row] & 1u) != 0u {
            state = after;
        }
        if KEEP_H == 1u {
            let o = gate(sums[at + 3u * WIDTH] + peep.z * after);
            h[((lane * params.steps + time) * params.rows + row) * WIDTH + unit] =
                o * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, after);
        }
    }
    c[c_index(lane, select(params.steps, 0u, reverse), row, unit)] = state;
}
