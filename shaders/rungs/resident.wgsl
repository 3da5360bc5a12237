// The whole recurrence in one dispatch across workgroups: each holds its units' weights for all
// timesteps, and h goes from workgroup to workgroup through `exchange`.
//
// Every h is stored there once, coded so that no h is 0; consumers spin until what they need is
// no longer 0. The value itself is the message, so no order between memory operations is needed.
// WebGPU does not guarantee that workgroups run concurrently. So the number of reads of every invocation
// is bounded: if one times out, all stop waiting, and the host, which reads `exchange[TIMED_OUT]` and
// `exchange[FINISHED]`, repeats the run one step at a time.

override ROWS: u32 = 1u;      // B
override SPINS: u32 = 1u;     // reads of four numbers in the whole dispatch after which an invocation times out
override STATE_QUADS: u32 = (STATE + 3u) / 4u;
override STATES: u32 = ROWS * ((STATE + 3u) / 4u);
override TURNS: u32 = (STATE_QUADS + SPLIT - 1u) / SPLIT;

@group(0) @binding(8) var<storage, read_write> exchange: array<atomic<u32>>; // [HEAD], then [T, LANES, B, STATE]

var<workgroup> state: array<vec4<f32>, STATES>;   // [B, K] h(t-1)
var<private> looks_left: u32;

const HEAD: u32 = 64u;
const TIMED_OUT: u32 = 0u;         // 1 once an invocation timed out
const FINISHED: u32 = 1u;      // workgroups that did all their steps
const ABSENT: u32 = 0u;
const KEY: u32 = 0x7fc0deadu; // a NaN; an h of these bits is sent as another NaN
const NAN: u32 = 0x7fc00000u;

fn slot(lane: u32, row: u32, step: u32) -> u32 {
    return HEAD + ((step * LANES + lane) * params.batch + row) * STATE;
}

fn send(at: u32, number: f32) {
    let bits = bitcast<u32>(number);
    atomicStore(&exchange[at], select(bits, NAN, bits == KEY) ^ KEY);
}

// Places of four numbers of an h from k on. Past its end the last is read again, so that nothing else is waited for.
fn places(k: u32) -> vec4<u32> {
    let four = k + vec4<u32>(0u, 1u, 2u, 3u);
    if STATE % 4u == 0u {
        return four;
    }
    return min(four, vec4<u32>(STATE - 1u));
}

// What was sent to four places.
//
// The loads stand inside the loop and nowhere else: compilers (Mesa's) merge a load before the loop with the one in
// it, and then no round of the loop reads again. The result of a read leaves the loop only in `words`: software
// adapters continue the loop for other invocations, and a later read would be used for this one.
fn received(at: vec4<u32>) -> vec4<f32> {
    var words = vec4<u32>(ABSENT);
    loop {
        let look = vec4<u32>(
            atomicLoad(&exchange[at.x]),
            atomicLoad(&exchange[at.y]),
            atomicLoad(&exchange[at.z]),
            atomicLoad(&exchange[at.w]),
        );
        if all(look != vec4<u32>(ABSENT)) {
            words = look;
            break;
        }
        if looks_left == 0u {
            atomicStore(&exchange[TIMED_OUT], 1u);
            break;
        }
        looks_left -= 1u;
        if looks_left % 256u == 0u && atomicLoad(&exchange[TIMED_OUT]) != 0u {
            looks_left = 0u;
        }
    }
    return bitcast<vec4<f32>>(words ^ vec4<u32>(KEY));
}

override OWNS_UNIT: bool = ROWS == 1u;   // an invocation has a unit of one row

alias Sums = Gates;

// The sum after one turn. Past an edge the last does it again and is dropped.
fn after_turn(sum: Sums, first: u32, turn: u32, y: u32, weights: array<Product, 4>) -> Sums {
    let i = turn * SPLIT + part_of(y);
    if STATE_QUADS % SPLIT == 0u {
        return added(sum, state[first + i], weights);
    }
    let numbers = select(state[first + min(i, STATE_QUADS - 1u)], vec4<f32>(), vec4<bool>(i >= STATE_QUADS));
    return added(sum, numbers, weights);
}

@compute @workgroup_size(UNITS, SPLIT)
fn recurrent_resident(
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(workgroup_id) group: vec3<u32>,
) {
    let lane = group.z;
    let index = local.y * UNITS + local.x;
    let unit = group.x * UNITS + local.x;
    let base = weights_of(lane);
    looks_left = SPINS;
    hold(base, unit, local.y);
    let real = min(unit, WIDTH - 1u);
    take_c(cell_index(lane, 0u, real));
    var step = params.first;
    for (; step < params.end; step++) {
        let time = time_of(lane, step);
        // Asked for before the wait for h(t-1), which hides how long it takes.
        let x_of_first = projected_at(projected_index(lane, 0u, step, real));
        for (var i0 = 0u; i0 < STATES; i0 += PARTIALS) {
            let i = i0 + index;
            if i < STATES {
                let row = i / STATE_QUADS;
                let k = 4u * (i % STATE_QUADS);
                var numbers: vec4<f32>;
                if step == params.first {
                    let at = state_index(lane, row, step) + places(k);
                    numbers = vec4<f32>(h[at.x], h[at.y], h[at.z], h[at.w]);
                } else {
                    numbers = received(slot(lane, row, step - 1u) + places(k));
                }
                if STATE % 4u != 0u {
                    numbers = select(numbers, vec4<f32>(), k + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(STATE));
                }
                state[i] = numbers;
            }
        }
        workgroupBarrier();
        for (var row = 0u; row < ROWS; row++) {
            let before = state[row * STATE_QUADS + min(unit, STATE - 1u) / 4u][unit % 4u];
            let own = after_turns(Gates(), row * STATE_QUADS, base, real, local.y);
            let sum = reduced(own, local.xy);
            if unit < WIDTH && local.y == 0u {
                var result = before;
                var handed_on = 0.0;
                if is_masked(row, time) {
                    handed_on = masked_output(lane, row, time, before);
                } else {
                    var x = x_of_first;
                    if ROWS > 1u {
                        x = projected_at(projected_index(lane, row, step, unit));
                    }
                    result = updated(lane, row, unit, x, scaled(sum, vector(lane, SCALE_OF_SUM), unit), before);
                    handed_on = result;
                }
                send(slot(lane, row, step) + unit, result);
                if step + 1u == params.end {
                    h[state_index(lane, row, params.end) + unit] = result;
                }
                output[output_index(lane, row, time, unit)] = handed_on;
            }
            // The state and the partial sums are read by all before they change. And all of a workgroup have sent before one of them
            // waits: software adapters run another only at a barrier.
            workgroupBarrier();
        }
    }
    if local.y == 0u && unit < WIDTH {
        give_c(cell_index(lane, 0u, unit));
    }
    if index == 0u && step == params.end && looks_left > 0u {
        atomicAdd(&exchange[FINISHED], 1u);
    }
}
