// One dispatch per timestep of a backward pass, as tile_backward.wgsl, for software adapters: an invocation takes 8 units of 8
// rows and reads what it needs itself. It drops no numbers of the state.

@group(0) @binding(7) var<storage, read> settings: array<u32>;

@compute @workgroup_size(UNITS)
fn recurrent_direct_backward(@builtin(local_invocation_index) index: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row0 = group.y * SIDE;
    let step = params.steps - 1u - (params.first + repetition.number);
    let time = time_of(lane, step);
    let unit0 = SIDE * (group.x * UNITS + index);
    // Units past the edge do as the last does, and are dropped.
    let last = vec4<u32>(WIDTH - 1u);
    let units_0 = min(unit0 + vec4<u32>(0u, 1u, 2u, 3u), last);
    let units_1 = min(unit0 + vec4<u32>(4u, 5u, 6u, 7u), last);
    let base = WEIGHTS_FIRST + lane * WEIGHTS_LANE;
    let source = source_step(step);
    // Nothing comes from behind the last step.
    let depth = select(DEPTH, 0u, source >= params.steps);
    let at = time_of(lane, min(source, params.steps - 1u));
    var sums = Block();
    for (var k = 0u; k < depth; k++) {
        let weights = base + k * WIDTH;
        let of_units = array<vec4<f32>, 2>(weights_at(weights + units_0), weights_at(weights + units_1));
        let of_rows = array<vec4<f32>, 2>(gradients_at(lane, at, row0, k), gradients_at(lane, at, row0 + 4u, k));
        add_products(&sums, of_units, of_rows);
    }
    var all = numbers(sums);
    for (var i = 0u; i < SIDE * SIDE; i++) {
        let unit = unit0 + i / SIDE;
        let row = row0 + i % SIDE;
        if unit < WIDTH && row < params.rows {
            finish_backward(lane, row, step, time, unit, all[i / 4u][i % 4u]);
        }
    }
}

fn weights_at(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(parameters[at.x], parameters[at.y], parameters[at.z], parameters[at.w]);
}
