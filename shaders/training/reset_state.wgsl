// The state of a GRU times its reset gate, before every timestep, from the pre-activations of the gate.

override WIDTH: u32;                 // H
override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                  // rows = LANES*T*B
@group(0) @binding(1) var<storage, read> sums: array<f32>;          // [LANES, T, B, 3H]
@group(0) @binding(2) var<storage, read> h: array<f32>;             // [LANES, T, B, H]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;  // [LANES, T, B, H]

@compute @workgroup_size(WORKGROUP)
fn reset_state(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / WIDTH;
    if row < params.rows {
        let sum = sums[row * (3u * WIDTH) + index % WIDTH];
        output[index] = h[index] * activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, sum));
    }
}
