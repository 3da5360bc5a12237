// The output of a recurrence from the states after every timestep: those of the last timestep, or 0 at masked ones.

override STATE: u32;             // width of h
override LANES: u32 = 1u;
override OUTPUT_STRIDE: u32;      // width of a row of the output
override OUTPUT_FIRST: u32 = 0u;  // first column of lane 0
override REVERSE: u32 = 0u;      // a bit per lane that reads the sequence from its end
override LAST: u32 = 0u;         // 1 where the output is the last timestep's
override MASKED: u32 = 0u;       // as in common/recurrent.wgsl
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows of the output
@group(0) @binding(1) var<storage, read> history: array<f32>;       // [T, B, OUTPUT_STRIDE]
@group(0) @binding(2) var<storage, read> initial: array<f32>;       // [LANES, B, STATE]
@group(0) @binding(3) var<storage, read> mask: array<u32>;          // [T, B], if MASKED
@group(0) @binding(4) var<storage, read_write> output: array<f32>;  // [T, B, OUTPUT_STRIDE] or [B, OUTPUT_STRIDE]

@compute @workgroup_size(WORKGROUP)
fn emit(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let width = LANES * STATE;
    let row = index / width;
    if row >= params.rows {
        return;
    }
    let column = index % width;
    let lane = column / STATE;
    let reverse = ((REVERSE >> lane) & 1u) == 1u;
    var source_at = row;
    if LAST == 1u {
        source_at = row + select((params.steps - 1u) * params.batch, 0u, reverse);
    }
    var value = history[source_at * OUTPUT_STRIDE + OUTPUT_FIRST + column];
    if MASKED != 0u {
        let bits = mask[source_at];
        let counts = (bits & 1u) != 0u;
        let seen = counts || (bits & select(2u, 4u, reverse)) != 0u;
        if LAST == 1u {
            let start = initial[(lane * params.batch + row % params.batch) * STATE + column % STATE];
            // As with every step, the state is handed on at once, or once a step counted.
            value = select(select(start, 0.0, MASKED == 2u), value, seen);
        } else if MASKED == 1u {
            value = select(0.0, value, counts);
        }
    }
    output[row * OUTPUT_STRIDE + OUTPUT_FIRST + column] = value;
}
