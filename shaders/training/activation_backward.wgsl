// The gradient before an elementwise function from the one behind it: d *= f'(x).

override ACTIVATION: u32 = 0u;
override ALPHA: f32 = 0.0;
override BETA: f32 = 0.0;
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;             // rows = numbers
@group(0) @binding(1) var<storage, read> x: array<f32>;        // before the function
@group(0) @binding(2) var<storage, read_write> d: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn activation_backward(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    if index < params.rows {
        d[index] *= derivative(ACTIVATION, ALPHA, BETA, x[index]);
    }
}
