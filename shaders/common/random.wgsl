// pcg4d (Jarzynski & Olano 2020, Hash Functions for GPU Rendering, JCGT 9(3)).
fn random(seed: vec2<u32>, stream: u32, step: u32) -> u32 {
    var v = vec4<u32>(seed, stream, step) * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v = v ^ (v >> vec4<u32>(16u));
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v.x;
}
