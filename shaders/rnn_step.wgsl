// One timestep of one direction of a plain RNN: h' = tanh(W x + U h + b).
// Twin: src/reference/rnn_step.rs.

alias Gates = f32;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 2u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [T', B, H] W x + b
@group(0) @binding(2) var<storage, read> recurrent: array<f32>;             // [H, H] U
@group(0) @binding(3) var<storage, read> h_in: array<f32>;                  // [B, H] h(t-1)
@group(0) @binding(4) var<storage, read_write> h_out: array<f32>;           // [B, H] h(t)
@group(0) @binding(5) var<storage, read_write> output: array<f32>;          // [T, B, D*H] or [B, D*H]
@group(0) @binding(6) var<storage, read> mask: array<u32>;                  // [T, B], if MASKED

fn state_at(index: u32) -> f32 {
    return h_in[index];
}

fn weights_at(index: u32) -> Gates {
    return recurrent[index];
}

@compute @workgroup_size(UNITS, SPLIT)
fn rnn_step(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let unit = group.x * UNITS + local.x;
    let row = group.y + group.z * groups.y;
    let live = unit < WIDTH && row < params.rows;
    let product = summed(live, row, unit, local.xy);
    if !live || local.y != 0u {
        return;
    }
    if is_masked(row) {
        stand_still(row, unit);
        return;
    }
    let sum = projected[(params.input_row + row) * WIDTH + unit] + product;
    write_h(row, unit, activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, sum)));
}
