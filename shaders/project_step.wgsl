// One timestep of a projection: h = Whr h' (Sak, Senior & Beaufays 2014). Its twin is the
// projection in src/reference/recurrent.rs.

alias Gates = f32;

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(1) var<storage, read> raw: array<f32>;                   // [B, H] h' before the projection
@group(0) @binding(2) var<storage, read> projection: array<f32>;            // [H, P]
@group(0) @binding(3) var<storage, read> h_in: array<f32>;                  // [B, P] h(t-1)
@group(0) @binding(4) var<storage, read_write> h_out: array<f32>;           // [B, P] h(t)
@group(0) @binding(5) var<storage, read_write> output: array<f32>;          // [T, B, D*P] or [B, D*P]
@group(0) @binding(6) var<storage, read> mask: array<u32>;                  // [T, B], if MASKED

fn state_at(index: u32) -> f32 {
    return raw[index];
}

fn weights_at(index: u32) -> Gates {
    return projection[index];
}

@compute @workgroup_size(UNITS, SPLIT)
fn project_step(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let unit = group.x * UNITS + local.x;
    let row = group.y + group.z * groups.y;
    let live = unit < WIDTH && row < params.rows;
    let h = summed(live, row, unit, local.xy);
    if !live || local.y != 0u {
        return;
    }
    if is_masked(row) {
        stand_still(row, unit);
    } else {
        write_h(row, unit, h);
    }
}
