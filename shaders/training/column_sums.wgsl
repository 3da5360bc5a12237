// Sums of the columns of a matrix, each over a slice of its rows: the gradients of biases, and of peepholes as the sums
// of a product of two matrices. add_slices.wgsl adds the slices.

struct Sizes {
    rows: u32,
    columns: u32,
    x_first: u32,   // where x begins
    x_stride: u32,  // numbers from one row of x to the next
    y_first: u32,
    y_stride: u32,
    slice: u32,     // rows of one slice
    product: u32,   // 1 where x is multiplied by y
}

override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;  // [slices, columns]

@compute @workgroup_size(WORKGROUP)
fn column_sums(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let column = group.x * WORKGROUP + local;
    if column >= params.columns {
        return;
    }
    let first = group.y * params.slice;
    let end = min(first + params.slice, params.rows);
    var sum = 0.0;
    for (var row = first; row < end; row++) {
        var value = x[params.x_first + row * params.x_stride + column];
        if params.product == 1u {
            value *= y[params.y_first + row * params.y_stride + column];
        }
        sum += value;
    }
    output[group.y * params.columns + column] = sum;
}
