// One dispatch per timestep, all lanes in it: the products and the update of the cell, with
// nothing in between written to memory. h alternates between the halves of its buffer.
//
// A workgroup takes UNITS units of one row, whose state it first copies to workgroup memory.

const SLICE: u32 = 256u;      // quads of the state in workgroup memory at a time
var<workgroup> slice: array<vec4<f32>, SLICE>;

// Four numbers of what is summed over, 0 after its end.
fn quad(below: bool, start: u32, depth: u32, k: u32) -> vec4<f32> {
    var numbers = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let inside = k + i < depth;
        let at = select(start, start + k + i, inside);
        var number = 0.0;
        if below {
            number = h[at];
        } else {
            number = state_at(at);
        }
        numbers[i] = select(0.0, number, inside);
    }
    return numbers;
}

// This invocation's part of the sum over `depth` numbers from `start`.
fn summed(below: bool, start: u32, depth: u32, base: u32, unit: u32, local: vec2<u32>) -> Gates {
    var sum = Gates();
    let quads = (depth + 3u) / 4u;
    let index = local.y * UNITS + local.x;
    // Units past the edge do as the last does, and are dropped. No branch: all read the same state.
    let real = min(unit, WIDTH - 1u);
    for (var first = 0u; first < quads; first += SLICE) {
        // Bounds are the same for all invocations: FXC wants that where a barrier follows.
        let count = min(SLICE, quads - first);
        for (var i0 = 0u; i0 < count; i0 += PARTIALS) {
            let i = i0 + index;
            if i < count {
                slice[i] = quad(below, start, depth, 4u * (first + i));
            }
        }
        workgroupBarrier();
        // Four turns at a time, so that sixteen loads are under way at once. Where no sum is shared, many units or rows hide the
        // wait, and software adapters have no registers for it.
        let whole = select(0u, count / (4u * SPLIT) * (4u * SPLIT), SPLIT > 1u);
        for (var i0 = 0u; i0 < whole; i0 += 4u * SPLIT) {
            let i = i0 + part_of(local.y);
            let at = first + i;
            let words_0 = words_at(base, at, real);
            let words_1 = words_at(base, at + SPLIT, real);
            let words_2 = words_at(base, at + 2u * SPLIT, real);
            let words_3 = words_at(base, at + 3u * SPLIT, real);
            sum = added(sum, slice[i], decoded(words_0));
            sum = added(sum, slice[i + SPLIT], decoded(words_1));
            sum = added(sum, slice[i + 2u * SPLIT], decoded(words_2));
            sum = added(sum, slice[i + 3u * SPLIT], decoded(words_3));
        }
        for (var i0 = whole; i0 < count; i0 += SPLIT) {
            let i = i0 + part_of(local.y);
            let last = count - 1u;
            let state = select(slice[min(i, last)], vec4<f32>(), vec4<bool>(i > last));
            sum = added(sum, state, decoded(words_at(base, first + min(i, last), real)));
        }
        workgroupBarrier();
    }
    return reduced(sum, local);
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_step(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row = place(group, groups).row;
    // A stacked lane is as many steps behind as levels lie below it.
    let step = params.first + repetition.number * params.stride - select(0u, lane, STACKED == 1u);
    if row >= params.rows || step >= params.steps {
        return;
    }
    let unit = group.x * UNITS + local.x;
    let base = weights_of(lane);
    var below = Gates();
    if has_below(lane) {
        // The level below wrote its h of this timestep in the dispatch before.
        below = summed(true, state_index(lane - 1u, row, step + 1u), BELOW, base, unit, local.xy);
    }
    let of_u = base + select(0u, WEIGHTS_BELOW, has_below(lane));
    let sum = summed(false, state_start(lane, row, step), DEPTH, of_u, unit, local.xy);
    if unit < WIDTH && local.y == 0u {
        finish(lane, row, step, time_of(lane, step), unit, below, sum);
    }
}
