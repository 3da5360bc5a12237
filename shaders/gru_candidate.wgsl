// Second half of a timestep of a GRU whose reset gate acts on the hidden state.
// Twin: src/reference/gru_step.rs.
//
//   n = tanh(Wn x + bn + Un (r∘h))  h' = (1 - z)∘n + z∘h

alias Gates = f32;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(1) var<storage, read> projected: array<f32>;             // [T', B, H, 3] of (r, z, n): W x + b
@group(0) @binding(2) var<storage, read> recurrent: array<f32>;             // [H, H, 3] of (r, z, n): U
@group(0) @binding(3) var<storage, read> h_in: array<f32>;                  // [B, H] h(t-1)
@group(0) @binding(4) var<storage, read_write> h_out: array<f32>;           // [B, H] h(t)
@group(0) @binding(5) var<storage, read_write> output: array<f32>;          // [T, B, D*H] or [B, D*H]
@group(0) @binding(6) var<storage, read> mask: array<u32>;                  // [T, B], if MASKED
@group(0) @binding(7) var<storage, read> reset: array<f32>;                 // [B, H] r∘h
@group(0) @binding(8) var<storage, read> update: array<f32>;                // [B, H] z

fn state_at(index: u32) -> f32 {
    return reset[index];
}

fn weights_at(index: u32) -> Gates {
    return recurrent[3u * index + 2u];
}

@compute @workgroup_size(UNITS, SPLIT)
fn gru_candidate(
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
    let sum = projected[3u * ((params.input_row + row) * WIDTH + unit) + 2u] + product;
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, sum));
    let state = row * WIDTH + unit;
    let z = update[state];
    write_h(row, unit, (1.0 - z) * n + z * h_in[state]);
}
