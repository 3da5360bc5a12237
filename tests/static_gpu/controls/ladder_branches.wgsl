// Breaks ladder_branches: a register that is chosen by its number.
// As `lstm sequence`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn control(@builtin(local_invocation_index) index: u32) {
    var held: array<vec4<f32>, 16>;
    for (var i = 0u; i < 16u; i++) {
        held[i] = weights[i * 64u + index];
    }
    var sum = vec4<f32>();
    let steps = u32(weights[0].x);
    for (var step = 0u; step < steps; step++) {
        let one = held[(step + index) % 16u];
        let two = held[(step * 3u + index) % 16u];
        let three = held[(step * 5u + index) % 16u];
        sum += one * two + two * three + three * one + one.x * two + one.y * three + two.z * one + three.w * one;
    }
    output[index] = sum;
}
