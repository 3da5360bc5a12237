// What the kernels of a cell with a memory share: sizes, places, sums. Reference: src/reference/ntm.rs.

struct Sizes {
    rows: u32,         // B
    first: u32,        // the first timestep here
    end: u32,          // behind the last
    steps: u32,        // T
    // Where in the state, in numbers, the parts of all rows begin:
    c: u32,
    read: u32,
    weights: u32,
    memory: u32,
    scratch: u32,
    tape_first: u32,   // the timestep with which the tape begins, where there is one
    tape_steps: u32,   // T', timesteps of the tape
}

override INPUTS: u32;              // I
override HIDDEN: u32;              // H
override CELL: u32;                // 0: LSTM, 1: GRU, 2: RNN
override Z: u32;                   // I + R*M
override SUMS: u32;                // G*H; of a GRU 4*H
override CONTROLS: u32;            // P
override MEMORY_ROWS: u32;         // N
override MEMORY_COLUMNS: u32;      // M
override READS: u32;               // R
override WRITES: u32;              // W
override SHIFTS: u32;
override ORDER: u32;               // 0: read first, 1: head by head, 2: write first
override TANH_KEY: u32;            // 1 where keys are hyperbolic tangents
override TANH_ADD: u32;
override CLIP_CONTROLS: f32;       // 0 for no bound
override STORED: u32;              // 1 where the memory and the weights of heads stay in storage
override KEPT_MEMORY: u32;         // N*M, or 1 if STORED
override KEPT_WEIGHTS: u32;        // K*N, or 1
override MASKED: u32;              // 1 where only steps count that the mask has on
override LAST: u32;                // 1 where the output is that after the last step
override WORKGROUP: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Sizes;

var<workgroup> controls: array<f32, CONTROLS>;
var<workgroup> memory: array<f32, KEPT_MEMORY>;
var<workgroup> weights: array<f32, KEPT_WEIGHTS>;
var<workgroup> partial: array<f32, WORKGROUP>;

var<private> row: u32;

fn gate_rows() -> u32 {
    return select(SUMS, 3u * HIDDEN, CELL == 1u);
}

fn of_head() -> u32 {
    return MEMORY_COLUMNS + 4u + 2u * SHIFTS;
}

fn memory_place() -> u32 {
    return params.memory + row * MEMORY_ROWS * MEMORY_COLUMNS;
}

fn weights_place() -> u32 {
    return params.weights + row * (READS + WRITES) * MEMORY_ROWS;
}

fn together() {
    storageBarrier();
    workgroupBarrier();
}

// The sum of a number of every invocation, or the largest, in an order that depends on nothing.
fn reduced(local: u32, number: f32, largest: bool) -> f32 {
    together();
    partial[local] = number;
    together();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if local < half {
            let other = partial[local + half];
            partial[local] = select(partial[local] + other, max(partial[local], other), largest);
        }
        together();
    }
    return partial[0];
}

// Columns of the memory that lie side by side in a workgroup; the other invocations take other rows of them.
fn span() -> u32 {
    return min(MEMORY_COLUMNS, WORKGROUP);
}

// The sum of a column over the groups of rows, for the first group.
fn over_groups(local: u32, number: f32) -> f32 {
    together();
    partial[local] = number;
    together();
    var sum = number;
    if local < span() {
        for (var group = 1u; group < WORKGROUP / span(); group++) {
            sum += partial[group * span() + local];
        }
    }
    return sum;
}

fn positive(number: f32) -> f32 {
    return max(number, 0.0) + log(1.0 + exp(-abs(number)));
}

// A number that the controller gives the heads, as these use it: keys, erase and add.
fn control_of(p: u32, sum: f32) -> f32 {
    let addressing = (READS + WRITES) * of_head();
    let number = bounded(CLIP_CONTROLS, sum);
    if p < addressing {
        let tanh_key = TANH_KEY == 1u && p % of_head() < MEMORY_COLUMNS;
        return select(number, guarded_tanh(number), tanh_key);
    }
    if (p - addressing) % (2u * MEMORY_COLUMNS) < MEMORY_COLUMNS {
        return sigmoid(number);
    }
    return select(number, guarded_tanh(number), TANH_ADD == 1u);
}

// Where what a write head erases begins in the controls; what it adds is behind that.
fn erase_place(write: u32) -> u32 {
    return (READS + WRITES) * of_head() + 2u * write * MEMORY_COLUMNS;
}

// A number of the memory after a write.
fn written(number: f32, weight: f32, erase: f32, add: f32) -> f32 {
    let kept = number * (1.0 - weight * erase);
    return kept + weight * add;
}

// The row from which a head's weight moves to row n by the shift of this place.
fn shifted_from(n: u32, place: u32) -> u32 {
    return (n + MEMORY_ROWS + SHIFTS - place) % MEMORY_ROWS;
}

// Writes of the timestep before a head addresses the memory.
fn writes_before(head: u32) -> u32 {
    if ORDER == 1u {
        return select(head - READS, min(head, WRITES), head < READS);
    }
    return select(0u, WRITES, ORDER == 2u && head < READS);
}
