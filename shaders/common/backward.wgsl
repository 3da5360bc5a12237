// What all kernels of a recurrence's backward pass share. They go from the last timestep of a lane to its first; a lane is
// a direction of a level. `sums` holds the pre-activations of every timestep and, behind each step, their gradient. Where
// memory is short, arrays hold an interval of the timesteps alone: T' of them, `params.count`.

override WIDTH: u32;              // units: H, or P where the state is projected
override DEPTH: u32;              // K of the product: numbers of a row of gradients
override SUMS: u32;               // numbers of a row of `sums`: G*H
override CARRY: u32;              // units that `carry` has room for
override LANES: u32 = 1u;
override REVERSE: u32 = 0u;       // a bit per lane that reads the sequence from its end
override LAST: u32 = 0u;          // 1 where the output is the last timestep's
override MASKED: u32 = 0u;        // output of a masked step: NO_MASK, ZERO or PREVIOUS
override OUTPUT_STRIDE: u32;      // width of a row of the output
override OUTPUT_FIRST: u32 = 0u;  // first column of lane 0
override WEIGHTS_FIRST: u32 = 0u; // where lane 0's matrix [DEPTH, WIDTH] begins in the parameters
override WEIGHTS_LANE: u32 = 0u;  // from lane 0's to lane 1's
override WHOLE: u32 = 0u;          // 1 where arrays hold all timesteps
override STARTED: u32 = 0u;       // 1 where `carry` holds gradients of the final state before the first dispatch
override FROM: u32 = 0u;          // first number of a row of gradients that the product reads
override UNITS: u32 = 64u;        // units of one workgroup
override SPLIT: u32 = 1u;         // invocations that share the sum of one unit

@group(0) @binding(0) var<uniform> params: Params;                  // rows = B
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;    // [LANES, T', B, SUMS]
@group(0) @binding(2) var<storage, read> parameters: array<f32>;    // all of the network
@group(0) @binding(3) var<storage, read_write> carry: array<f32>;   // [2, LANES, B, CARRY] what a step hands to the one before, and `behind` [LANES, B, SUMS]
@group(0) @binding(4) var<storage, read> d_output: array<f32>;      // [T, B, OUTPUT_STRIDE] or [B, OUTPUT_STRIDE]
@group(0) @binding(5) var<storage, read> mask: array<u32>;          // [T, B], if MASKED
@group(0) @binding(6) var<storage, read> kept: array<f32>;          // what the cell's forward pass kept

// Values of MASKED.
const NO_MASK: u32 = 0u;
const PREVIOUS: u32 = 2u;

// Bits of the mask.
const VALID: u32 = 1u;           // the step counts
const SEEN_FORWARD: u32 = 2u;    // a step before it counts
const SEEN_REVERSE: u32 = 4u;    // a step after it counts

fn is_reverse(lane: u32) -> bool {
    return ((REVERSE >> lane) & 1u) == 1u;
}

// The timestep that a lane's step reads.
fn time_of(lane: u32, step: u32) -> u32 {
    return select(step, params.steps - 1u - step, is_reverse(lane));
}

// The timestep with which a lane's arrays begin.
fn origin(lane: u32) -> u32 {
    return select(params.done, params.steps - params.done - params.count, is_reverse(lane));
}

// The row of a timestep in arrays [LANES, T', B, ..].
fn row_index(lane: u32, time: u32, row: u32) -> u32 {
    return (lane * params.count + time - origin(lane)) * params.batch + row;
}

fn sums_index(lane: u32, time: u32, row: u32) -> u32 {
    return row_index(lane, time, row) * SUMS;
}

fn carry_index(part: u32, lane: u32, row: u32, unit: u32) -> u32 {
    return ((part * LANES + lane) * params.batch + row) * CARRY + unit;
}

// What the step behind handed on; of the last step, the gradient of the final state, if something read that.
fn carried(at: u32, step: u32) -> f32 {
    return select(carry[at], 0.0, STARTED == 0u && step + 1u == params.steps);
}

// Whether a timestep lies behind the interval; its gradients are those that `carry` keeps.
fn is_behind(lane: u32, time: u32) -> bool {
    return WHOLE == 0u && time - origin(lane) >= params.count;
}

fn behind_index(lane: u32, row: u32) -> u32 {
    return 2u * LANES * params.batch * CARRY + (lane * params.batch + row) * SUMS;
}

fn is_masked(row: u32, time: u32) -> bool {
    return MASKED != NO_MASK && (mask[time * params.batch + row] & VALID) == 0u;
}

// The gradient of the output of a step; of a masked step, that of the state which it hands on.
fn output_gradient(lane: u32, row: u32, step: u32, time: u32, unit: u32) -> f32 {
    let at = select(time * params.batch, 0u, LAST == 1u) + row;
    let d = d_output[at * OUTPUT_STRIDE + OUTPUT_FIRST + lane * WIDTH + unit];
    var handed_on = LAST == 0u || step + 1u == params.steps;
    if MASKED != NO_MASK {
        let bits = mask[time * params.batch + row];
        let seen = (bits & select(SEEN_FORWARD, SEEN_REVERSE, is_reverse(lane))) != 0u;
        // The output of a masked step is 0, or the state: that of the last step, or once a step counted.
        let stands_still = select(LAST == 1u, seen, MASKED == PREVIOUS);
        handed_on = handed_on && ((bits & VALID) != 0u || stands_still);
    }
    return select(0.0, d, handed_on);
}

// The derivative of `bounded`: 0 outside of the bound, 1 within and at it.
fn within(bound: f32, x: f32) -> f32 {
    return select(1.0, 0.0, bound > 0.0 && abs(x) > bound);
}
