// The backward pass of a cell whose units do not depend on each other, in one dispatch: an invocation takes one unit of one
// row of one lane through all timesteps, forwards for the states, then back.

// The gradients of x0 to x3 and of the state before a step.
struct UnitGradients {
    x: vec4<f32>,
    before: f32,
}

@group(0) @binding(7) var<storage, read_write> before: array<f32>;   // [LANES, T, B, WIDTH] the state before every timestep

// The blocks of WIDTH numbers that W x + b has, up to four; without a loop, since software adapters bound their number.
fn x_at(at: u32) -> vec4<f32> {
    var x = vec4(sums[at], 0.0, 0.0, 0.0);
    if SUMS > WIDTH {
        x.y = sums[at + WIDTH];
    }
    if SUMS > 2u * WIDTH {
        x.z = sums[at + 2u * WIDTH];
    }
    if SUMS > 3u * WIDTH {
        x.w = sums[at + 3u * WIDTH];
    }
    return x;
}

fn put_gradients(at: u32, d_x: vec4<f32>) {
    sums[at] = d_x.x;
    if SUMS > WIDTH {
        sums[at + WIDTH] = d_x.y;
    }
    if SUMS > 2u * WIDTH {
        sums[at + 2u * WIDTH] = d_x.z;
    }
    if SUMS > 3u * WIDTH {
        sums[at + 3u * WIDTH] = d_x.w;
    }
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_scan_backward(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let lane = group.z;
    let row = group.y * SPLIT + local.y;
    let unit = group.x * UNITS + local.x;
    if row >= params.rows || unit >= WIDTH {
        return;
    }
    let extra = extra_of(lane, unit);
    var state = kept[(lane * params.batch + row) * WIDTH + unit];
    for (var step = 0u; step < params.steps; step++) {
        let time = time_of(lane, step);
        before[row_index(lane, time, row) * WIDTH + unit] = state;
        if !is_masked(row, time) {
            state = state_after(x_at(sums_index(lane, time, row) + unit), extra, state);
        }
    }
    let of_h = carry_index(0u, lane, row, unit);
    let of_c = carry_index(1u, lane, row, unit);
    var d_h = carried(of_h, params.steps - 1u);
    var d_c = 0.0;
    if KEEPS_C {
        d_c = carried(of_c, params.steps - 1u);
    }
    for (var behind = 0u; behind < params.steps; behind++) {
        let step = params.steps - 1u - behind;
        let time = time_of(lane, step);
        let at = sums_index(lane, time, row) + unit;
        d_h += output_gradient(lane, row, step, time, unit);
        var d_x = vec4<f32>();
        if !is_masked(row, time) {
            let before_step = before[row_index(lane, time, row) * WIDTH + unit];
            let gradients = unit_gradients(x_at(at), extra, before_step, d_h, d_c);
            d_x = gradients.x;
            d_h = select(gradients.before, 0.0, KEEPS_C);
            d_c = select(0.0, gradients.before, KEEPS_C);
        }
        put_gradients(at, d_x);
    }
    carry[of_h] = d_h;
    if KEEPS_C {
        carry[of_c] = d_c;
    }
}
