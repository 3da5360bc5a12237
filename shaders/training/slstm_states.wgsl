// c, n and m of an sLSTM before every timestep, from the sums of its gates. An invocation goes through all timesteps of one unit
// of one row.

override WIDTH: u32;                 // H
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;          // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;           // 0 where no step is masked
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                // rows = B, steps = T
@group(0) @binding(1) var<storage, read> sums: array<f32>;        // [LANES, T, B, 4H]
@group(0) @binding(2) var<storage, read> initial: array<f32>;     // [3, LANES, B, H]
@group(0) @binding(3) var<storage, read> mask: array<u32>;        // [T, B], if MASKED
@group(0) @binding(4) var<storage, read_write> kept: array<f32>;  // [LANES, T, B, 3, H], in order of time

@compute @workgroup_size(WORKGROUP)
fn slstm_states(
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
    let part = LANES * params.rows * WIDTH;
    let first = (lane * params.rows + row) * WIDTH + unit;
    var state = vec3<f32>(initial[first], initial[first + part], initial[first + 2u * part]);
    for (var step = 0u; step < params.steps; step++) {
        let time = select(step, params.steps - 1u - step, ((REVERSE >> lane) & 1u) == 1u);
        let at = (lane * params.steps + time) * params.rows + row;
        let to = 3u * WIDTH * at + unit;
        kept[to] = state.x;
        kept[to + WIDTH] = state.y;
        kept[to + 2u * WIDTH] = state.z;
        let from_sums = 4u * WIDTH * at + unit;
        let gates =
            vec4<f32>(sums[from_sums], sums[from_sums + WIDTH], sums[from_sums + 2u * WIDTH], sums[from_sums + 3u * WIDTH]);
        if MASKED == 0u || (mask[time * params.rows + row] & 1u) != 0u {
            state = slstm_state(slstm_gates(gates, state), state);
        }
    }
}
