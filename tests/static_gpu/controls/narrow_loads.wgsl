// Breaks narrow_loads: weights that are loaded number by number.
// As `lstm step`.

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    let depth = words[0];
    var sum = vec4<f32>();
    for (var k = 0u; k < depth; k++) {
        let at = 16u * (k * 64u + index);
        let a = vec4<f32>(f32(words[at]), f32(words[at + 1u]), f32(words[at + 2u]), f32(words[at + 3u]));
        let b = vec4<f32>(f32(words[at + 5u]), f32(words[at + 7u]), f32(words[at + 9u]), f32(words[at + 11u]));
        sum += a * b + a.x * b + b.y * a + b.z * b + a.w * a;
    }
    output[index] = sum;
}
