// c between the timesteps of an interval of an LSTM, and h before its projection, from the sums that the forward pass kept,
// which are also laid out by gates. An invocation goes through all timesteps of one unit of one row.

override WIDTH: u32;                 // H
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;          // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;           // 0 where no step is masked
override KEEP_H: u32 = 0u;           // 1 where h before a projection is kept
override KEEP_NEW: u32 = 0u;         // 1 where c before zoneout is kept behind all of c
override KEPT_LANE: u32 = 0u;        // units from those of one lane to those of the next
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                // rows = B, steps = T'; the interval begins at input_row
@group(0) @binding(1) var<storage, read> kept: array<f32>;        // [LANES, T', B, H, 4] of i, f, g, o
@group(0) @binding(2) var<storage, read> parameters: array<f32>;  // all of the network
@group(0) @binding(3) var<storage, read> initial: array<f32>;     // [LANES, B, H] before the interval
@group(0) @binding(4) var<storage, read> mask: array<u32>;        // [T, B], if MASKED
@group(0) @binding(5) var<storage, read_write> c: array<f32>;     // [LANES, T' + 1, B, H] before t, in order of time; twice if KEEP_NEW
@group(0) @binding(6) var<storage, read_write> h: array<f32>;     // [LANES, T', B, H], if KEEP_H
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;  // [LANES, T', B, 4H]
@group(0) @binding(8) var<storage, read> settings: array<u32>;

fn c_index(lane: u32, at: u32, row: u32, unit: u32) -> u32 {
    return ((lane * (params.steps + 1u) + at) * params.rows + row) * WIDTH + unit;
}

// The pre-activations of a unit, without peepholes.
fn sums_of(lane: u32, time: u32, row: u32, unit: u32) -> vec4<f32> {
    let from_kept = 4u * (lane * KEPT_LANE + (time * params.rows + row) * WIDTH + unit);
    let to = ((lane * params.steps + time) * params.rows + row) * (4u * WIDTH) + unit;
    let gates = vec4<f32>(kept[from_kept], kept[from_kept + 1u], kept[from_kept + 2u], kept[from_kept + 3u]);
    for (var gate = 0u; gate < 4u; gate++) {
        sums[to + gate * WIDTH] = gates[gate];
    }
    return gates;
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
        let gates = sums_of(lane, time, row, unit);
        let i = gate(gates.x + peep.x * state);
        var f = 1.0 - i;
        if COUPLED == 0u {
            f = gate(gates.y + peep.y * state);
        }
        let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, gates.z));
        let after = bounded(CLIP_CELL, f * state + i * g);
        if MASKED == 0u || (mask[params.input_row + time * params.rows + row] & 1u) != 0u {
            let share = kept_of_c(lane, (params.input_row + time * params.rows + row) * WIDTH + unit);
            let mean = share * state + (1.0 - share) * after;
            state = select(select(mean, after, share == 0.0), state, share == 1.0);
        }
        if KEEP_NEW == 1u {
            let behind = LANES * (params.steps + 1u) * params.rows * WIDTH;
            c[behind + c_index(lane, select(time, time + 1u, reverse), row, unit)] = after;
        }
        if KEEP_H == 1u {
            let o = gate(gates.w + peep.z * after);
            h[((lane * params.steps + time) * params.rows + row) * WIDTH + unit] =
                o * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, after);
        }
    }
    c[c_index(lane, select(params.steps, 0u, reverse), row, unit)] = state;
}
