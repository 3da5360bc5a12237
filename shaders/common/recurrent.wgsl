// What all recurrent kernels share: lanes, the state, masks, where a step's h goes.
//
// A lane is a chain of timesteps: a direction of a level, or, stacked, one level of several, each
// a step behind the one below it. A cell (cells/) defines what a step computes, a kernel
// variant (rungs/) how the steps are run, a format (weights/) how the weights are stored.

override WIDTH: u32;                 // units: H, or P in a projection
override STATE: u32;                 // width of h: H, or P with a projection
override DEPTH: u32;                 // K of the sum over the state
override BELOW: u32 = 0u;            // K of the sum over the level below; 0 where no lane has one
override UNITS: u32 = 64u;           // units of one workgroup
override LANES: u32 = 1u;
override STACKED: u32 = 0u;          // 1 where lanes are levels, 0 where they are directions
override REVERSE: u32 = 0u;          // a bit per lane that reads the sequence from its end
override LAST: u32 = 0u;             // 1 where the (last) level outputs its last step only
override WEIGHTS_FIRST: u32 = 0u;    // where lane 0's matrix begins, in words
override WEIGHTS_NEXT: u32 = 0u;     // where lane 1's does
override WEIGHTS_LANE: u32 = 0u;     // from each further lane to the next
override WEIGHTS_BELOW: u32 = 0u;    // from a lane's W to its U
override VECTOR: u32;                // numbers of one vector: G*H and padding
override VECTORS_LANE: u32 = 0u;     // from one lane's vectors to the next
override OUTPUT_STRIDE: u32;         // width of a row of the output
override OUTPUT_FIRST: u32 = 0u;     // first column of lane 0
override MASKED: u32 = 0u;           // output of a masked step: NO_MASK, ZERO or PREVIOUS
override PARTIAL: u32 = 0u;          // 1 where another kernel finishes the step

@group(0) @binding(0) var<uniform> params: Params;                          // rows = B
@group(0) @binding(3) var<storage, read> vectors: array<f32>;               // [LANES, parts, VECTOR]
@group(0) @binding(4) var<storage, read_write> h: array<f32>;               // [2, LANES, B, STATE], by parity of the step
@group(0) @binding(5) var<storage, read_write> output: array<f32>;          // [T, B, D*H] or [B, D*H] per level
@group(0) @binding(6) var<storage, read> mask: array<u32>;                  // [T, B], if MASKED
@group(0) @binding(7) var<storage, read_write> cell: array<f32>;            // [LANES, B, WIDTH] c or what the cell keeps, twice

// Parts of a lane's vectors.
const BIAS: u32 = 0u;            // Wb + Rb; where a reset gate stands between, Wb alone
const SCALE_BELOW: u32 = 1u;     // of W
const SCALE: u32 = 2u;           // of U
const EXTRA: u32 = 3u;           // [3, H] peepholes of i, f, o; or [H] the recurrent bias of n
const SCALE_PROJECTION: u32 = 4u;

// Values of MASKED.
const NO_MASK: u32 = 0u;         // no step is masked
const ZERO: u32 = 1u;            // 0; where only the last step is handed on, the state
const PREVIOUS: u32 = 2u;        // the state, once a step counted

// Bits of the mask.
const VALID: u32 = 1u;           // the step counts
const SEEN_FORWARD: u32 = 2u;    // a step before it counts
const SEEN_REVERSE: u32 = 4u;    // a step after it counts

fn vector(lane: u32, part: u32) -> u32 {
    return lane * VECTORS_LANE + part * VECTOR;
}

fn weights_of(lane: u32) -> u32 {
    return select(WEIGHTS_NEXT + (lane - 1u) * WEIGHTS_LANE, WEIGHTS_FIRST, lane == 0u);
}

// Whether a lane sums over the level below; else its input has been projected before.
fn has_below(lane: u32) -> bool {
    return BELOW > 0u && lane > 0u;
}

fn is_reverse(lane: u32) -> bool {
    return ((REVERSE >> lane) & 1u) == 1u;
}

// The timestep that a lane's step reads.
fn time_of(lane: u32, step: u32) -> u32 {
    return select(step, params.steps - 1u - step, is_reverse(lane));
}

// Where the projected input of a step lies; the chunk of time is stored in order of time.
fn projected_index(lane: u32, row: u32, step: u32, unit: u32) -> u32 {
    let ahead = step - params.done;
    let at = select(ahead, params.count - 1u - ahead, is_reverse(lane));
    return lane * params.projected_lane + (at * params.batch + row) * WIDTH + unit;
}

// Where h lies before a step; after it, that is before the next, in the other half.
fn state_index(lane: u32, row: u32, step: u32) -> u32 {
    return (((step & 1u) * LANES + lane) * params.batch + row) * STATE;
}

fn cell_index(lane: u32, row: u32, unit: u32) -> u32 {
    return (lane * params.batch + row) * WIDTH + unit;
}

fn is_masked(row: u32, time: u32) -> bool {
    if MASKED == NO_MASK {
        return false;
    }
    return (mask[time * params.batch + row] & VALID) == 0u;
}

// Whether a lane outputs its last step only.
fn last_only(lane: u32) -> bool {
    return LAST == 1u && (STACKED == 0u || lane + 1u == LANES);
}

fn output_index(lane: u32, row: u32, time: u32, unit: u32) -> u32 {
    let at = select(time * params.batch, 0u, last_only(lane)) + row;
    return at * OUTPUT_STRIDE + OUTPUT_FIRST + lane * params.output_lane + unit;
}

// The output of a masked step, whose state stays `before`.
fn masked_output(lane: u32, row: u32, time: u32, before: f32) -> f32 {
    var kept = last_only(lane);
    if MASKED == PREVIOUS {
        let seen = select(SEEN_FORWARD, SEEN_REVERSE, is_reverse(lane));
        kept = (mask[time * params.batch + row] & seen) != 0u;
    }
    return select(0.0, before, kept);
}

// The mean of what a state was and of what it becomes, where a share of the units keep it.
fn zoned(share: f32, before: f32, after: f32) -> f32 {
    return select(after, share * before + (1.0 - share) * after, share > 0.0);
}

// Lane and row of a workgroup: rows beyond one dimension are folded into z, lanes after them.
struct Place {
    lane: u32,
    row: u32,
}

fn place(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let folds = groups.z / LANES;
    return Place(group.z / folds, group.y + group.z % folds * groups.y);
}
