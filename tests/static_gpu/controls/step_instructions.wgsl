// Breaks step_instructions: a step that says everything twice.
// As `lstm f32 H128 sequence held`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(128)
fn control(@builtin(local_invocation_index) index: u32) {
    let steps = u32(weights[0].x);
    var h = weights[index];
    for (var step = 0u; step < steps; step++) {
        for (var i = 0u; i < 30u; i++) {
            h = exp(h * f32(i)) + h * h;
        }
    }
    output[index] = h;
}
