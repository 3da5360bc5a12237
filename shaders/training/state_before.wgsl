// h before each timestep of an interval, from the outputs of a recurrence: the output of the timestep before, or the
// initial state.

override STATE: u32;             // width of h
override OUTPUT_STRIDE: u32;      // width of a row of the outputs
override OUTPUT_FIRST: u32 = 0u;  // first column of lane 0
override REVERSE: u32 = 0u;      // a bit per lane that reads the sequence from its end
override MASKED: u32 = 0u;       // 0 where no step is masked
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = T'*B, from input_row on
@group(0) @binding(1) var<storage, read> history: array<f32>;       // [T, B, OUTPUT_STRIDE]
@group(0) @binding(2) var<storage, read> initial: array<f32>;       // [LANES, B, STATE]
@group(0) @binding(3) var<storage, read> mask: array<u32>;          // [T, B], if MASKED
@group(0) @binding(4) var<storage, read_write> output: array<f32>;  // [LANES, T', B, STATE]

@compute @workgroup_size(WORKGROUP)
fn state_before(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / STATE;
    if row >= params.rows {
        return;
    }
    let lane = group.z;
    let unit = index % STATE;
    let time = (params.input_row + row) / params.batch;
    let of_batch = row % params.batch;
    let reverse = ((REVERSE >> lane) & 1u) == 1u;
    let is_first = select(time == 0u, time + 1u == params.steps, reverse);
    // A masked step before the first that counts leaves the initial state.
    var seen = !is_first;
    if MASKED != 0u {
        // A step of a loop is alone, whatever counted before it.
        seen = seen && (mask[params.input_row + row] & select(2u, 4u, reverse)) != 0u;
    }
    let before = select(select(time - 1u, time + 1u, reverse), 0u, is_first);
    let source_at = (before * params.batch + of_batch) * OUTPUT_STRIDE + OUTPUT_FIRST + lane * STATE + unit;
    let start = initial[(lane * params.batch + of_batch) * STATE + unit];
    output[lane * params.rows * STATE + index] = select(start, history[source_at], seen);
}
