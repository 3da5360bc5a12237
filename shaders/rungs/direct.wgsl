// One dispatch per timestep, as tile.wgsl, for software adapters: an invocation computes two units of eight rows and reads
// what it needs itself. common/block.wgsl says why.

const OF_UNITS: u32 = 2u;  // units of an invocation
const OF_ROWS: u32 = 8u;   // its rows

// The sums of one unit of eight rows.
alias Sums = array<Gates, 8>;

// The number at `k` of a row's state, 0 after the end.
fn number_at(below: bool, start: u32, depth: u32, k: u32) -> f32 {
    let at = start + select(0u, k, k < depth);
    var number = 0.0;
    if below {
        number = h[at];
    } else {
        number = state_at(at);
    }
    return select(0.0, number, k < depth);
}

fn numbers_at(below: bool, start: u32, depth: u32, quad: u32) -> vec4<f32> {
    let k = 4u * quad;
    return vec4<f32>(
        number_at(below, start, depth, k),
        number_at(below, start, depth, k + 1u),
        number_at(below, start, depth, k + 2u),
        number_at(below, start, depth, k + 3u),
    );
}

fn add_products(sums: ptr<function, Sums>, rows: array<vec4<f32>, 8>, weights: array<Product, 4>) {
    (*sums)[0] += product(rows[0], weights);
    (*sums)[1] += product(rows[1], weights);
    (*sums)[2] += product(rows[2], weights);
    (*sums)[3] += product(rows[3], weights);
    (*sums)[4] += product(rows[4], weights);
    (*sums)[5] += product(rows[5], weights);
    (*sums)[6] += product(rows[6], weights);
    (*sums)[7] += product(rows[7], weights);
}

// Where the state of a row begins; rows past the edge are read as the last.
fn start_of(below: bool, lane: u32, row: u32, step: u32) -> u32 {
    let real = min(row, params.rows - 1u);
    if below {
        return state_index(lane - 1u, real, step + 1u);
    }
    return state_start(lane, real, step);
}

// Of each unit the sums of eight rows.
fn summed(below: bool, lane: u32, row0: u32, step: u32, depth: u32, base: u32, units: vec2<u32>) -> array<Gates, 16> {
    var sums_0 = Sums();
    var sums_1 = Sums();
    let starts = array<u32, 8>(
        start_of(below, lane, row0, step),
        start_of(below, lane, row0 + 1u, step),
        start_of(below, lane, row0 + 2u, step),
        start_of(below, lane, row0 + 3u, step),
        start_of(below, lane, row0 + 4u, step),
        start_of(below, lane, row0 + 5u, step),
        start_of(below, lane, row0 + 6u, step),
        start_of(below, lane, row0 + 7u, step),
    );
    for (var quad = 0u; quad < (depth + 3u) / 4u; quad++) {
        let rows = array<vec4<f32>, 8>(
            numbers_at(below, starts[0], depth, quad),
            numbers_at(below, starts[1], depth, quad),
            numbers_at(below, starts[2], depth, quad),
            numbers_at(below, starts[3], depth, quad),
            numbers_at(below, starts[4], depth, quad),
            numbers_at(below, starts[5], depth, quad),
            numbers_at(below, starts[6], depth, quad),
            numbers_at(below, starts[7], depth, quad),
        );
        add_products(&sums_0, rows, decoded(words_at(base, quad, units.x)));
        add_products(&sums_1, rows, decoded(words_at(base, quad, units.y)));
    }
    return array<Gates, 16>(
        sums_0[0], sums_0[1], sums_0[2], sums_0[3], sums_0[4], sums_0[5], sums_0[6], sums_0[7],
        sums_1[0], sums_1[1], sums_1[2], sums_1[3], sums_1[4], sums_1[5], sums_1[6], sums_1[7],
    );
}

@compute @workgroup_size(UNITS)
fn recurrent_direct(
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = place(group, groups).lane;
    let row0 = place(group, groups).row * OF_ROWS;
    // A stacked lane is as many steps behind as levels lie below it.
    let step = params.first + repetition.number * params.stride - select(0u, lane, STACKED == 1u);
    if row0 >= params.rows || step >= params.steps {
        return;
    }
    let unit0 = (group.x * UNITS + index) * OF_UNITS;
    // Units past the edge do as the last does, and are dropped.
    let units = min(unit0 + vec2<u32>(0u, 1u), vec2<u32>(WIDTH - 1u));
    let base = weights_of(lane);
    var inputs = array<Gates, 16>();
    if has_below(lane) {
        // The level below wrote its h of this timestep in the dispatch before.
        inputs = summed(true, lane, row0, step, BELOW, base, units);
    }
    let of_u = base + select(0u, WEIGHTS_BELOW, has_below(lane));
    var sums = summed(false, lane, row0, step, DEPTH, of_u, units);
    let time = time_of(lane, step);
    for (var i = 0u; i < OF_UNITS * OF_ROWS; i++) {
        let unit = unit0 + i / OF_ROWS;
        let row = row0 + i % OF_ROWS;
        if unit < WIDTH && row < params.rows {
            finish(lane, row, step, time, unit, inputs[i], sums[i]);
        }
    }
}
