// The past inputs of a window over time: new inputs behind those of their rows, or what is kept of them after a run.
// Reference: src/reference/past.rs.

override FEATURES: u32;            // I
override KEPT: u32;                // P, timesteps that the window keeps
override AFTER: u32 = 0u;          // 1 where the last P inputs are kept, 0 where inputs are put behind past ones
override UNEVEN: u32 = 0u;         // 1 where the rows begin at different timesteps
override RATE: u32 = 1u;           // timesteps of the network's input for one of these
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = (P+T)*B, or B*P; steps = T
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [T, B, I], of AFTER with the past ones in front
@group(0) @binding(2) var<storage, read> past: array<f32>;              // [B, P, I], unless AFTER
@group(0) @binding(3) var<storage, read> first: array<u32>;             // [B], if UNEVEN
@group(0) @binding(4) var<storage, read_write> output: array<f32>;      // [P+T, B, I], or [B, P, I]

@compute @workgroup_size(WORKGROUP)
fn past_inputs(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / FEATURES;
    if row >= params.rows {
        return;
    }
    let column = index % FEATURES;
    if AFTER == 1u {
        let t = params.steps - KEPT + row % KEPT;
        output[index] = x[(t * params.batch + row / KEPT) * FEATURES + column];
        return;
    }
    let t = row / params.batch;
    let of_batch = row % params.batch;
    var begin = 0u;
    if UNEVEN == 1u {
        begin = first[of_batch] / RATE;
    }
    if t >= KEPT + begin {
        output[index] = x[((t - KEPT) * params.batch + of_batch) * FEATURES + column];
    } else if t >= begin {
        output[index] = past[(of_batch * KEPT + t - begin) * FEATURES + column];
    } else {
        output[index] = 0.0;
    }
}
