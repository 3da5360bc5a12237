// One dispatch per timestep, as in step.wgsl, of a layer that is trained with dropout of h: each gate's product reads h
// through the gate's mask. Training runs one level after the other, so no lane sums over a level below.

@group(0) @binding(8) var<storage, read> settings: array<u32>;

const SLICE: u32 = 64u;               // quads of the state in workgroup memory at a time
var<workgroup> slice: array<Gates, 4 * SLICE>;   // [k] h times the masks of the gates

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_step_dropped(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    let step = params.first + repetition.number * params.stride;
    if row >= params.rows || step >= params.steps {
        return;
    }
    let unit = group.x * UNITS + local.x;
    // Units past the edge do as the last does, and are dropped.
    let real = min(unit, WIDTH - 1u);
    let base = weights_of(lane);
    let start = state_start(lane, row, step);
    let index = local.y * UNITS + local.x;
    let quads = (DEPTH + 3u) / 4u;
    var sum = Gates();
    for (var first = 0u; first < quads; first += SLICE) {
        let count = min(SLICE, quads - first);
        for (var i0 = 0u; i0 < 4u * count; i0 += PARTIALS) {
            let i = i0 + index;
            if i < 4u * count {
                let k = 4u * first + i;
                let number = select(0.0, state_at(start + min(k, DEPTH - 1u)), k < DEPTH);
                slice[i] = number * state_factors(lane, row, k);
            }
        }
        workgroupBarrier();
        for (var i0 = 0u; i0 < count; i0 += SPLIT) {
            let i = min(i0 + part_of(local.y), count - 1u);
            let weights = decoded(words_at(base, first + i, real));
            let product = slice[4u * i] * weights[0] + slice[4u * i + 1u] * weights[1]
                + slice[4u * i + 2u] * weights[2] + slice[4u * i + 3u] * weights[3];
            if i0 + part_of(local.y) < count {
                sum += product;
            }
        }
        workgroupBarrier();
    }
    sum = reduced(sum, local.xy);
    if unit < WIDTH && local.y == 0u {
        finish(lane, row, step, time_of(lane, step), unit, Gates(), sum);
    }
}
