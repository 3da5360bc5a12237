// One timestep of one direction: four gate products and the cell update in one dispatch.
// Twin: src/reference/lstm_step.rs.
//
//   i = σ(Wi x + Ui h + bi)     f = σ(Wf x + Uf h + bf)
//   g = tanh(Wg x + Ug h + bg)  o = σ(Wo x + Uo h + bo)
//   c' = f∘c + i∘g              h' = o∘tanh(c')
//
// The four gates of a unit lie together as one vec4 (i, f, g, o), so one load brings all four
// and neighbouring invocations read neighbours. SPLIT invocations share the sum over k.

override HIDDEN_SIZE: u32;            // H
override OUTPUT_STRIDE: u32;          // D*H
override OUTPUT_OFFSET: u32 = 0u;     // first column of this direction
override UNITS: u32 = 64u;            // units of one workgroup
override SPLIT: u32 = 1u;             // invocations per unit

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(1) var<storage, read> projected: array<vec4<f32>>;       // [T, B, H] of (i, f, g, o): W x + b
@group(0) @binding(2) var<storage, read> recurrent: array<vec4<f32>>;       // [H (k), H] of (i, f, g, o): U
@group(0) @binding(3) var<storage, read> h_in: array<f32>;                  // [B, H] h(t-1)
@group(0) @binding(4) var<storage, read_write> h_out: array<f32>;           // [B, H] h(t)
@group(0) @binding(5) var<storage, read_write> cell: array<f32>;            // [B, H] c, in place
@group(0) @binding(6) var<storage, read_write> output: array<f32>;          // [T, B, D*H] or [B, D*H]

var<workgroup> partial: array<vec4<f32>, UNITS * SPLIT>;

@compute @workgroup_size(UNITS, SPLIT)
fn lstm_step(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let unit = group.x * UNITS + local.x;
    let row = group.y + group.z * groups.y;
    let live = unit < HIDDEN_SIZE && row < params.rows;

    var gates = vec4<f32>();
    // The bound is the same for all invocations (FXC wants that where a barrier follows).
    for (var k0 = 0u; k0 < HIDDEN_SIZE; k0 += SPLIT) {
        let k = k0 + local.y;
        if live && k < HIDDEN_SIZE {
            gates += h_in[row * HIDDEN_SIZE + k] * recurrent[k * HIDDEN_SIZE + unit];
        }
    }
    if SPLIT > 1u {
        partial[local.y * UNITS + local.x] = gates;
        workgroupBarrier();
        if local.y == 0u {
            for (var s = 1u; s < SPLIT; s++) {
                gates += partial[s * UNITS + local.x];
            }
        }
    }
    if !live || local.y != 0u {
        return;
    }

    gates += projected[(params.input_row + row) * HIDDEN_SIZE + unit];
    let state = row * HIDDEN_SIZE + unit;
    let c = sigmoid(gates.y) * cell[state] + sigmoid(gates.x) * guarded_tanh(gates.z);
    let h = sigmoid(gates.w) * guarded_tanh(c);
    cell[state] = c;
    h_out[state] = h;
    output[(params.output_row + row) * OUTPUT_STRIDE + OUTPUT_OFFSET + unit] = h;
}
