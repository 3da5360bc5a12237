// h of a workgroup that runs one row of one lane through many timesteps.
//
// Two states, so that no barrier stands between reading h(t-1) and writing h(t). Numbers, not vectors: compilers may write
// a whole vector where a shader writes one of its components, over what other invocations write.

override STATE_QUADS: u32 = (STATE + 3u) / 4u;
override STATE_ROOM: u32 = 4u * ((STATE + 3u) / 4u);
override STATES: u32 = 8u * ((STATE + 3u) / 4u);
override TURNS: u32 = (STATE_QUADS + SPLIT - 1u) / SPLIT;

var<workgroup> states: array<f32, STATES>;   // [2, K] h before and after the step, 0 past the end
var<private> before: u32;                    // quads in front of h(t-1)

// Reads the state at `start`. A barrier must follow.
fn bring_state(start: u32, index: u32) {
    before = 0u;
    for (var k0 = 0u; k0 < STATE_ROOM; k0 += PARTIALS) {
        let k = k0 + index;
        if k < STATE_ROOM {
            states[k] = select(0.0, h[start + min(k, STATE - 1u)], k < STATE);
            states[STATE_ROOM + k] = 0.0;
        }
    }
}

// Four numbers of h(t-1).
fn state_quad(quad: u32) -> vec4<f32> {
    let at = 4u * (before + quad);   // a multiple of 4, as compilers see: one wide load
    return vec4<f32>(states[at], states[at + 1u], states[at + 2u], states[at + 3u]);
}

fn state_before(unit: u32) -> f32 {
    return states[4u * before + unit];
}

// Writes a number of h(t).
fn put_state(unit: u32, number: f32) {
    states[4u * (STATE_QUADS - before) + unit] = number;
}

// h(t) becomes h(t-1). A barrier must stand before it.
fn turn_over() {
    before = STATE_QUADS - before;
}

// Writes h(t-1) to `start`.
fn keep_state(start: u32, index: u32) {
    for (var k0 = 0u; k0 < STATE; k0 += PARTIALS) {
        let k = k0 + index;
        if k < STATE {
            h[start + k] = states[4u * before + k];
        }
    }
}
