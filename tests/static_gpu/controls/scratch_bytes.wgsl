// Breaks scratch_bytes: a large array that is indexed at run time.
// As `lstm step`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    var kept: array<vec4<f32>, 256>;
    let count = u32(weights[0].x);
    for (var i = 0u; i < count; i++) {
        kept[(i * 7u) % 256u] = weights[i * 64u + index];
    }
    output[index] = kept[(count * 3u + index) % 256u];
}
