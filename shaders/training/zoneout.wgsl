// The end of a timestep while a layer with zoneout is trained: the units that are drawn get back the h and the c of the step
// before. The step itself ran without zoneout.

override WIDTH: u32 = 0u;         // H of a cell with c, 0 of others
override STATE: u32;              // width of h
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;       // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;        // 0 where no step is masked
override OUTPUT_STRIDE: u32;      // width of a row of the history
override OUTPUT_FIRST: u32 = 0u;  // first column of lane 0
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                     // rows = B
@group(0) @binding(1) var<storage, read> mask: array<u32>;             // [T, B], if MASKED
@group(0) @binding(2) var<storage, read_write> h: array<f32>;          // [2, LANES, B, STATE], by parity of the step
@group(0) @binding(3) var<storage, read_write> history: array<f32>;    // [T, B, OUTPUT_STRIDE] h behind every step
@group(0) @binding(4) var<storage, read_write> c: array<f32>;          // [LANES, B, WIDTH]
@group(0) @binding(5) var<storage, read_write> c_before: array<f32>;   // the same before the step
@group(0) @binding(6) var<storage, read> settings: array<u32>;

@compute @workgroup_size(WORKGROUP)
fn zoneout(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let width = max(WIDTH, STATE);
    let row = index / width;
    if row >= params.rows {
        return;
    }
    let unit = index % width;
    let lane = group.z;
    let step = params.first + repetition.number;
    let time = select(step, params.steps - 1u - step, ((REVERSE >> lane) & 1u) == 1u);
    let at = time * params.batch + row;
    if MASKED != 0u && (mask[at] & 1u) == 0u {
        return;
    }
    if unit < STATE && kept_of_h(lane, at * STATE + unit) == 1.0 {
        let before = h[(((step & 1u) * LANES + lane) * params.batch + row) * STATE + unit];
        h[((((step + 1u) & 1u) * LANES + lane) * params.batch + row) * STATE + unit] = before;
        history[at * OUTPUT_STRIDE + OUTPUT_FIRST + lane * STATE + unit] = before;
    }
    if unit < WIDTH {
        let of_c = (lane * params.batch + row) * WIDTH + unit;
        if kept_of_c(lane, at * WIDTH + unit) == 1.0 {
            c[of_c] = c_before[of_c];
        }
        c_before[of_c] = c[of_c];
    }
}
