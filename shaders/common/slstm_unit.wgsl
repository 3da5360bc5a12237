// The gates of a unit of an sLSTM, and its state after a timestep.

override EXPONENTIAL: u32 = 0u;      // 1 where φ is exp, 0 where it is σ
override CANDIDATE: u32 = 2u;
override CANDIDATE_ALPHA: f32 = 0.0;
override CANDIDATE_BETA: f32 = 0.0;

struct SlstmUnit {
    i: f32,
    f: f32,
    z: f32,
    after: vec3<f32>,   // c, n and m
    opens: bool,        // m is that of the input gate
    bounded: bool,      // f would be above 1
}

// log σ(x)
fn log_sigmoid(x: f32) -> f32 {
    return min(x, 0.0) - log(1.0 + exp(-abs(x)));
}

// From the pre-activations i, f, z, o and c, n, m before the timestep.
fn slstm_unit(gates: vec4<f32>, before: vec3<f32>) -> SlstmUnit {
    let kept = select(log_sigmoid(gates.y), gates.y, EXPONENTIAL == 1u) + before.z;
    let opens = before.y == 0.0 || !(kept > gates.x);
    let m = select(kept, gates.x, opens);
    let i = exp(gates.x - m);
    let f = exp(kept - m);
    let within = min(f, 1.0);
    let z = activate(CANDIDATE, CANDIDATE_ALPHA, CANDIDATE_BETA, gates.z);
    return SlstmUnit(i, within, z, vec3<f32>(within * before.x + i * z, within * before.y + i, m), opens, f > 1.0);
}
