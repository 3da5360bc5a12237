// Numbers of a matrix times a mask that all timesteps of a row share. The rows are [T, B]. Reference:
// src/train/recurrent_dropout.rs.

struct Sizes {
    count: u32,           // numbers
    width: u32,           // numbers of a row of the matrix
    batch: u32,           // B
    gates: u32,           // masks of a row
    gate: u32,            // the one that is taken
    x_first: u32,
    x_stride: u32,
    output_first: u32,
    output_stride: u32,
    site: u32,            // which draws they are
    least: u32,           // the smallest random number that keeps
    scale: u32,           // the bits of an f32
}

override ADD: u32 = 0u;   // 1 where the output is added to
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> settings: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn row_dropout(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count {
        return;
    }
    let row = index / params.width;
    let k = index % params.width;
    let place = (row % params.batch * params.gates + params.gate) * params.width + k;
    let keeps = random(seed_of_step(), place, params.site) >= params.least;
    let number = x[params.x_first + row * params.x_stride + k] * select(0.0, bitcast<f32>(params.scale), keeps);
    let at = params.output_first + row * params.output_stride + k;
    output[at] = select(0.0, output[at], ADD == 1u) + number;
}
