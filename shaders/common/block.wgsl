// Products of 8 rows and 8 columns that one invocation adds up, for software adapters. Those read numbers lane by lane, so that
// what counts is how many products an invocation takes of each number that it reads. Around a barrier they keep all variables
// in memory, which makes a read four times as slow, so that invocations share nothing.

const SIDE: u32 = 8u;

// The sums of two quads of rows and two of columns. Column i of a matrix holds the four sums of its row i.
struct Block {
    m00: mat4x4<f32>,
    m01: mat4x4<f32>,
    m10: mat4x4<f32>,
    m11: mat4x4<f32>,
}

fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(x.x * y, x.y * y, x.z * y, x.w * y);
}

// Adds the products of 8 rows' numbers x and 8 columns' numbers y.
fn add_products(sums: ptr<function, Block>, x: array<vec4<f32>, 2>, y: array<vec4<f32>, 2>) {
    (*sums).m00 += outer(x[0], y[0]);
    (*sums).m01 += outer(x[0], y[1]);
    (*sums).m10 += outer(x[1], y[0]);
    (*sums).m11 += outer(x[1], y[1]);
}

// Of each row its two quads of columns. What is indexed by a variable lies in memory, so that this is a copy.
fn numbers(sums: Block) -> array<vec4<f32>, 16> {
    return array<vec4<f32>, 16>(
        sums.m00[0], sums.m01[0], sums.m00[1], sums.m01[1], sums.m00[2], sums.m01[2], sums.m00[3], sums.m01[3],
        sums.m10[0], sums.m11[0], sums.m10[1], sums.m11[1], sums.m10[2], sums.m11[2], sums.m10[3], sums.m11[3],
    );
}
