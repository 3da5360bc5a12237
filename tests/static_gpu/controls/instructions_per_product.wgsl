// Breaks instructions_per_product: bytes with signs, and an edge that is looked for at each.
// As `lstm step`.

@group(0) @binding(0) var<storage, read> words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    let depth = u32(words[0].x);
    var sum = vec4<f32>();
    for (var k = 0u; k < depth; k++) {
        let word = words[min(k * 64u + index, depth)];
        for (var i = 0u; i < 4u; i++) {
            let byte = vec4<f32>(bitcast<vec4<i32>>(word << vec4<u32>(24u - 8u * i)) >> vec4<u32>(24u));
            let dead = vec4<bool>(k * 4u + i >= depth);
            sum += select(byte, vec4<f32>(), dead) * select(vec4<f32>(f32(k)), byte, dead);
        }
    }
    output[index] = sum;
}
