// The gates of a unit of an sLSTM.

override EXPONENTIAL: u32 = 0u;      // 1 where φ is exp, 0 where it is σ
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

// log σ(x)
fn log_sigmoid(x: f32) -> f32 {
    return min(x, 0.0) - log(1.0 + exp(-abs(x)));
}

// i, f, z and the new m from the pre-activations i, f, z, o and c, n, m before the timestep. No struct: LLVM compiles one slowly.
fn slstm_gates(gates: vec4<f32>, before: vec3<f32>) -> vec4<f32> {
    let kept = select(log_sigmoid(gates.y), gates.y, EXPONENTIAL == 1u) + before.z;
    let m = select(kept, gates.x, before.y == 0.0 || !(kept > gates.x));
    let z = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, gates.z);
    return vec4<f32>(exp(gates.x - m), min(exp(kept - m), 1.0), z, m);
}

// c, n and m after it.
fn slstm_state(found: vec4<f32>, before: vec3<f32>) -> vec3<f32> {
    return vec3<f32>(found.y * before.x + found.x * found.z, found.y * before.y + found.x, found.w);
}
