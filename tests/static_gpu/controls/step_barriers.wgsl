// Breaks step_barriers: a sum by halves, a barrier for each.
// As `lstm sequence held`.

@group(0) @binding(0) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;

var<workgroup> partial: array<vec4<f32>, 128>;

@compute @workgroup_size(128)
fn control(@builtin(local_invocation_index) index: u32) {
    let steps = u32(weights[0].x);
    var h = weights[index];
    for (var step = 0u; step < steps; step++) {
        partial[index] = h;
        for (var half = 64u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if index < half {
                partial[index] += partial[index + half];
            }
        }
        workgroupBarrier();
        h = exp(partial[0]) + h;
    }
    output[index] = h;
}
