// h of a workgroup that runs one row of one lane through many timesteps.

override STATE_QUADS: u32 = (STATE + 3u) / 4u;
override STATE_ROOM: u32 = 4u * ((STATE + 3u) / 4u);
override TURNS: u32 = (STATE_QUADS + SPLIT - 1u) / SPLIT;

var<workgroup> state: array<vec4<f32>, STATE_QUADS>;   // h(t-1)
var<workgroup> fresh: array<f32, STATE_ROOM>;          // h(t), until all have read h(t-1)

// The fresh state becomes the state.
fn turn_over(index: u32) {
    for (var i0 = 0u; i0 < STATE_QUADS; i0 += PARTIALS) {
        let i = i0 + index;
        if i < STATE_QUADS {
            state[i] = vec4(fresh[4u * i], fresh[4u * i + 1u], fresh[4u * i + 2u], fresh[4u * i + 3u]);
        }
    }
    workgroupBarrier();
}
