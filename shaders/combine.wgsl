// output[r] = (output[r] op x[r]) * scale over a block of columns: joins of branches, merged
// directions, and rows that move in time. Reference: src/reference/combine.rs.

override COLUMNS: u32;             // width of the block
override IN_STRIDE: u32;           // width of a row of x
override IN_OFFSET: u32 = 0u;      // first column of x
override OUT_STRIDE: u32;          // width of a row of the output
override OUT_OFFSET: u32 = 0u;     // first column of the output
override HOW: u32 = 0u;            // COPY, ADD, MUL, MAX or SUB
override SCALE: f32 = 1.0;
override REVERSED: u32 = 0u;       // 1 where timesteps are read from the last to the first
override WORKGROUP: u32 = 64u;

const COPY: u32 = 0u;
const ADD: u32 = 1u;
const MUL: u32 = 2u;
const MAX: u32 = 3u;
const SUB: u32 = 4u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [M, IN_STRIDE]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;      // [M, OUT_STRIDE]

@compute @workgroup_size(WORKGROUP)
fn combine(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / COLUMNS;
    if row >= params.rows {
        return;
    }
    let column = index % COLUMNS;
    let to = (params.output_row + row) * OUT_STRIDE + OUT_OFFSET + column;
    var from_row = params.input_row + row;
    if REVERSED == 1u {
        from_row = (params.steps - 1u - row / params.batch) * params.batch + row % params.batch;
    }
    var value = x[from_row * IN_STRIDE + IN_OFFSET + column];
    if HOW == ADD {
        value += output[to];
    } else if HOW == MUL {
        value *= output[to];
    } else if HOW == SUB {
        value = output[to] - value;
    } else if HOW == MAX {
        value = max(value, output[to]);
    }
    output[to] = value * SCALE;
}
