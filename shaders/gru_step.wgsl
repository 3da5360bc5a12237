// One timestep of one direction of a GRU whose reset gate acts on the recurrent product:
// three gate products and the update in one dispatch. Twin: src/reference/gru_step.rs.
//
//   r = σ(Wr x + Ur h + br)  z = σ(Wz x + Uz h + bz)
//   n = tanh(Wn x + bn + r∘(Un h + dn))  h' = (1 - z)∘n + z∘h

alias Gates = vec3<f32>;

override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
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
@group(0) @binding(7) var<storage, read> new_bias: array<f32>;              // [H] d

fn state_at(index: u32) -> f32 {
    return h_in[index];
}

fn weights_at(index: u32) -> Gates {
    return vec3(recurrent[3u * index], recurrent[3u * index + 1u], recurrent[3u * index + 2u]);
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

@compute @workgroup_size(UNITS, SPLIT)
fn gru_step(
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
    let at = 3u * ((params.input_row + row) * WIDTH + unit);
    let r = gate(projected[at] + product.x);
    let z = gate(projected[at + 1u] + product.y);
    let sum = projected[at + 2u] + r * (product.z + new_bias[unit]);
    let n = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, sum));
    write_h(row, unit, (1.0 - z) * n + z * h_in[row * WIDTH + unit]);
}
