// Dropout: numbers are set to 0 at random, the others multiplied by a scale. The same draw serves the output and its
// gradient. src/train/dropout.rs draws the same numbers.

struct Sizes {
    count: u32,    // numbers
    row: u32,      // numbers of one timestep where all timesteps share a mask, else 0
    site: u32,     // which dropout of the network it is
    least: u32,    // the smallest random number that keeps
    scale: u32,    // the bits of an f32
    seed: u32,     // where the seed lies in the settings
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> settings: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn dropout(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index >= params.count {
        return;
    }
    let place = select(index, index % max(params.row, 1u), params.row > 0u);
    let seed = vec2<u32>(settings[params.seed], settings[params.seed + 1u]);
    let drawn = random(seed, place, params.site);
    x[index] *= select(0.0, bitcast<f32>(params.scale), drawn >= params.least);
}
