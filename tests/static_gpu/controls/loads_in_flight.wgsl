// Breaks loads_in_flight: one turn at a time.
// As `lstm f32 H512 B1 step`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    let depth = u32(weights[0].x);
    var sum = vec4<f32>();
    for (var k = 0u; k < depth; k++) {
        let at = k * 256u + index;
        let state = output[k];
        sum += state.x * weights[at] + state.y * weights[at + 64u] + state.z * weights[at + 128u] + state.w * weights[at + 192u];
    }
    output[index] = sum;
}
