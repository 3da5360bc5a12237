// What both kernels of a product while training share: sizes, what they read, where a number goes.

struct Sizes {
    m: u32,         // rows of a and c
    n: u32,         // columns of b and c
    k: u32,         // columns of a, rows of b
    a_first: u32,   // where a begins
    a_stride: u32,  // numbers from one row of a to the next; of a^T where it is transposed
    b_first: u32,
    b_stride: u32,
    c_first: u32,
    c_stride: u32,
    bias_first: u32,
    slice: u32,     // K of one slice
    flags: u32,
}

// Bits of the flags.
const ACCUMULATE: u32 = 1u;  // c is added to
const BIASED: u32 = 2u;      // bias [N] is added
const A_TURNED: u32 = 4u;    // a lies transposed, [K, M]
const B_TURNED: u32 = 8u;    // b lies transposed, [N, K]

@group(0) @binding(0) var<uniform> params: Sizes;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;  // [slices, M, c_stride]

// Writes or adds one number of a slice.
fn put(slice: u32, row: u32, column: u32, product: f32) {
    if row >= params.m || column >= params.n {
        return;
    }
    let at = params.c_first + (slice * params.m + row) * params.c_stride + column;
    var sum = product;
    if (params.flags & BIASED) != 0u {
        sum += bias[params.bias_first + column];
    }
    if (params.flags & ACCUMULATE) != 0u {
        sum += c[at];
    }
    c[at] = sum;
}
