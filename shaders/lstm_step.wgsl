// One timestep of one direction: four gate products and the cell update in one dispatch.
// Twin: src/reference/lstm_step.rs.
//
//   i = σ(Wi x + Ui h + bi + pi∘c)  f = σ(Wf x + Uf h + bf + pf∘c)  (coupled: f = 1 - i)
//   g = tanh(Wg x + Ug h + bg)      c' = f∘c + i∘g
//   o = σ(Wo x + Uo h + bo + po∘c') h' = o∘tanh(c')
//
// The four gates of a unit lie together as one vec4 (i, f, g, o), so one load brings all four
// and neighbouring invocations read neighbours.

alias Gates = vec4<f32>;

override PROJECTED: u32 = 0u;        // h' goes to a projection instead of the output
override PEEPHOLE: u32 = 0u;
override COUPLED: u32 = 0u;
override CLIP_GATES: f32 = 0.0;      // bound of the pre-activations, 0 for none
override CLIP_CELL: f32 = 0.0;       // bound of c, 0 for none
override GATE: u32 = 3u;
override GATE_ALPHA: f32 = 0.0;
override GATE_BETA: f32 = 0.0;
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;
override OUTPUT: u32 = 2u;
override OUTPUT_ALPHA: f32 = 0.0;
override OUTPUT_BETA: f32 = 0.0;

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(1) var<storage, read> projected: array<vec4<f32>>;       // [T', B, H] of (i, f, g, o): W x + b
@group(0) @binding(2) var<storage, read> recurrent: array<vec4<f32>>;       // [K, H] of (i, f, g, o): U
@group(0) @binding(3) var<storage, read> h_in: array<f32>;                  // [B, K] h(t-1)
@group(0) @binding(4) var<storage, read_write> h_out: array<f32>;           // [B, H] h(t)
@group(0) @binding(5) var<storage, read_write> cell: array<f32>;            // [B, H] c, in place
@group(0) @binding(6) var<storage, read_write> output: array<f32>;          // [T, B, D*H] or [B, D*H]
@group(0) @binding(7) var<storage, read> mask: array<u32>;                  // [T, B], if MASKED
@group(0) @binding(8) var<storage, read> peephole: array<f32>;              // [3, H] of i, f, o, if PEEPHOLE

fn state_at(index: u32) -> f32 {
    return h_in[index];
}

fn weights_at(index: u32) -> Gates {
    return recurrent[index];
}

fn peep(block: u32, unit: u32, c: f32) -> f32 {
    if PEEPHOLE == 0u {
        return 0.0;
    }
    return peephole[block * WIDTH + unit] * c;
}

fn gate(x: f32) -> f32 {
    return activate(GATE, GATE_ALPHA, GATE_BETA, bounded(CLIP_GATES, x));
}

@compute @workgroup_size(UNITS, SPLIT)
fn lstm_step(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let unit = group.x * UNITS + local.x;
    let row = group.y + group.z * groups.y;
    let live = unit < WIDTH && row < params.rows;
    var gates = summed(live, row, unit, local.xy);
    if !live || local.y != 0u {
        return;
    }
    if is_masked(row) {
        if PROJECTED == 0u {
            stand_still(row, unit);
        }
        return;
    }
    gates += projected[(params.input_row + row) * WIDTH + unit];
    let state = row * WIDTH + unit;
    let before = cell[state];
    let i = gate(gates.x + peep(0u, unit, before));
    var f = 1.0 - i;
    if COUPLED == 0u {
        f = gate(gates.y + peep(1u, unit, before));
    }
    let g = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, bounded(CLIP_GATES, gates.z));
    let c = bounded(CLIP_CELL, f * before + i * g);
    let o = gate(gates.w + peep(2u, unit, c));
    let h = o * activate(OUTPUT, OUTPUT_ALPHA, OUTPUT_BETA, c);
    cell[state] = c;
    if PROJECTED == 0u {
        write_h(row, unit, h);
    } else {
        h_out[state] = h;
    }
}
