// What all matrix products share: sizes, what they read and where it goes. In front of them.

override IN_FEATURES: u32;   // K
override OUT_FEATURES: u32;  // N
override ACTIVATION: u32 = 0u;
override ALPHA: f32 = 0.0;
override BETA: f32 = 0.0;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = M
@group(0) @binding(1) var<storage, read> x: array<f32>;                 // [.., K]
@group(0) @binding(2) var<storage, read> w: array<u32>;                 // [K, N], packed as weights/ says
@group(0) @binding(3) var<storage, read> bias: array<f32>;              // [N]
@group(0) @binding(4) var<storage, read> scale: array<f32>;             // [N], of 8-bit weights
@group(0) @binding(5) var<storage, read_write> output: array<f32>;      // [.., N]

// Reads past an edge become 0. No branches: SwiftShader takes minutes to compile 16 of them.
fn read_w(k: u32, column: u32) -> f32 {
    let inside = k < IN_FEATURES && column < OUT_FEATURES;
    return select(0.0, weight_at(select(0u, k, inside), select(0u, column, inside)), inside);
}
