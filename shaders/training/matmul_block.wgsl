// As matmul.wgsl, for software adapters: an invocation computes 8 rows of 8 columns and reads what it needs itself.

const GROUP: u32 = 8u;  // invocations

@compute @workgroup_size(GROUP)
fn matmul(
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let a_turned = (params.flags & A_TURNED) != 0u;
    let b_turned = (params.flags & B_TURNED) != 0u;
    let across = (params.n + SIDE - 1u) / SIDE;
    let block = (group.x + group.y * groups.x) * GROUP + index;
    let row0 = block / across * SIDE;
    let column0 = block % across * SIDE;
    let first = group.z * params.slice;
    let end = min(first + params.slice, params.k);
    let a_next = select(params.a_stride, 1u, a_turned);
    let b_next = select(1u, params.b_stride, b_turned);
    let a_step = select(1u, params.a_stride, a_turned);
    let b_step = select(params.b_stride, 1u, b_turned);
    // Rows and columns past the edge are read as the last and never written.
    let quad = vec4<u32>(0u, 1u, 2u, 3u);
    let last_row = vec4<u32>(params.m - 1u);
    let last_column = vec4<u32>(params.n - 1u);
    let a_0 = params.a_first + min(row0 + quad, last_row) * a_next;
    let a_1 = params.a_first + min(row0 + 4u + quad, last_row) * a_next;
    let b_0 = params.b_first + min(column0 + quad, last_column) * b_next;
    let b_1 = params.b_first + min(column0 + 4u + quad, last_column) * b_next;
    var sums = Block();
    for (var k = first; k < end; k++) {
        let x = array<vec4<f32>, 2>(a_quad(a_0 + k * a_step), a_quad(a_1 + k * a_step));
        let y = array<vec4<f32>, 2>(b_quad(b_0 + k * b_step), b_quad(b_1 + k * b_step));
        add_products(&sums, x, y);
    }
    var all = numbers(sums);
    for (var i = 0u; i < SIDE * SIDE; i++) {
        put(group.z, row0 + i / SIDE, column0 + i % SIDE, all[i / 4u][i % 4u]);
    }
}

fn a_quad(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn b_quad(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
}
