// The next token of every row that has not ended: the most probable (the lowest of equals), or a sampled one.
// It is written to where the next step's embedding reads it. One workgroup per row. Reference: src/reference/choose.rs.
//
// Sampling uses integers alone, so that equal logits give equal tokens on every device: each token's distance
// from the best in units of 2^-20 halvings, its weight 2^(31 - distance) in 32 bits, sums in 64.

override FEATURES: u32;          // V
override SAMPLE: u32 = 0u;       // 1 where a token is drawn
override WORKGROUP: u32 = 64u;   // a power of two

const NO_SLOT: u32 = 0xffffffffu;
const GOING: u32 = 0u;
const STOPPED: u32 = 1u;
const BAD: u32 = 2u;
const UNIT: u32 = 20u;                   // a halving is 2^20 of distance
const FARTHEST: u32 = 32505856u;         // 31 halvings: weight 0 from there on
const BITS: u32 = 25u;                   // of a distance

// settings: distance of one unit of logits (f32), top_k (0: all), top_p * 2^32 (0: all), seed (low,
// high), most tokens, number of tokens that end a row, those tokens.
const SEED: u32 = 3u;
const MOST: u32 = 5u;
const ENDS: u32 = 6u;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = B
@group(0) @binding(1) var<storage, read> x: array<u32>;                 // [B, V], bits of f32
@group(0) @binding(2) var<storage, read> settings: array<u32>;          // as above
@group(0) @binding(3) var<storage, read_write> input: array<u32>;       // [B], what the next step reads
@group(0) @binding(4) var<storage, read_write> slots: array<u32>;       // [B], of states; none after the end
@group(0) @binding(5) var<storage, read_write> progress: array<u32>;    // [B, 4]: tokens so far, GOING.., the
                                                                        // log-probability or what is bad and where
@group(0) @binding(6) var<storage, read_write> output: array<u32>;      // [B, MOST]

var<workgroup> lows: array<u32, WORKGROUP>;
var<workgroup> highs: array<u32, WORKGROUP>;

// 64-bit numbers: x low, y high.
fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// The upper 32 bits of a product.
fn upper(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let middle = ah * bl + ((al * bl) >> 16u);
    let lower_middle = al * bh + (middle & 0xffffu);
    return ah * bh + (middle >> 16u) + (lower_middle >> 16u);
}

// a * b / 2^32
fn part(a: vec2<u32>, b: u32) -> vec2<u32> {
    return plus(vec2<u32>(upper(a.x, b), 0u), vec2<u32>(a.y * b, upper(a.y, b)));
}

fn distance_at(at: u32, highest: f32) -> u32 {
    let below = min(highest - logit(at), 1e20);
    return u32(min(below * bitcast<f32>(settings[0]), 32505856.0));
}

// 2^(31 - distance): the series of 2^-t for the fractional part, then shifts.
fn weight(distance: u32) -> u32 {
    let t = distance << (32u - UNIT);
    var sum = 2838u;
    sum = 32755u - upper(sum, t);
    sum = 330788u - upper(sum, t);
    sum = 2863360u - upper(sum, t);
    sum = 20654775u - upper(sum, t);
    sum = 119194166u - upper(sum, t);
    sum = 515882496u - upper(sum, t);
    sum = 1488522236u - upper(sum, t);
    sum = 2147483648u - upper(sum, t);
    return select(sum >> (distance >> UNIT), 0u, distance >= FARTHEST);
}

// The weight of this invocation's tokens up to a distance, or their number.
fn of_lane(row_at: u32, live: bool, local: u32, highest: f32, most: u32, count: bool) -> vec2<u32> {
    var sum = vec2<u32>();
    let lane = (FEATURES + WORKGROUP - 1u) / WORKGROUP;
    for (var i = 0u; i < lane; i++) {
        let k = local * lane + i;
        if live && k < FEATURES && finite(row_at + k) {
            let distance = distance_at(row_at + k, highest);
            if distance <= most {
                sum = plus(sum, vec2<u32>(select(weight(distance), 1u, count), 0u));
            }
        }
    }
    return sum;
}

// The sum of all lanes.
fn total(lane: vec2<u32>, local: u32) -> vec2<u32> {
    lows[local] = lane.x;
    highs[local] = lane.y;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            let sum = plus(vec2<u32>(lows[local], highs[local]), vec2<u32>(lows[local + half], highs[local + half]));
            lows[local] = sum.x;
            highs[local] = sum.y;
        }
    }
    workgroupBarrier();
    let sum = vec2<u32>(lows[0], highs[0]);
    workgroupBarrier();
    return sum;
}

// The same, and the sum of the lanes before this one.
struct Sums {
    all: vec2<u32>,
    before_lane: vec2<u32>,
}

fn together(lane: vec2<u32>, local: u32) -> Sums {
    lows[local] = lane.x;
    highs[local] = lane.y;
    workgroupBarrier();
    var sums = Sums(vec2<u32>(), vec2<u32>());
    for (var k = 0u; k < WORKGROUP; k++) {
        if k == local {
            sums.before_lane = sums.all;
        }
        sums.all = plus(sums.all, vec2<u32>(lows[k], highs[k]));
    }
    workgroupBarrier();
    return sums;
}

// The least distance, up to `most`, up to which tokens have at least `needed` together.
fn reach(row_at: u32, live: bool, local: u32, highest: f32, most: u32, needed: vec2<u32>, count: bool) -> u32 {
    var found = 0u;
    for (var bit = 0u; bit < BITS; bit++) {
        let half = 1u << (BITS - 1u - bit);
        let lane = of_lane(row_at, live, local, highest, min(found + half - 1u, most), count);
        if less(total(lane, local), needed) {
            found += half;
        }
    }
    return min(found, most);
}

fn draw(row_at: u32, live: bool, local: u32, highest: f32, random: u32) -> u32 {
    var most = FARTHEST;
    if settings[1] > 0u {
        most = reach(row_at, live, local, highest, most, vec2<u32>(min(settings[1], FEATURES), 0u), true);
    }
    if settings[2] > 0u {
        let all = total(of_lane(row_at, live, local, highest, most, false), local);
        most = reach(row_at, live, local, highest, most, part(all, settings[2]), false);
    }
    let lane_sum = of_lane(row_at, live, local, highest, most, false);
    let sums = together(lane_sum, local);
    let target_sum = part(sums.all, random);
    var sum = sums.before_lane;
    let lane = (FEATURES + WORKGROUP - 1u) / WORKGROUP;
    // One lane alone has the token.
    let here = !less(target_sum, sum) && less(target_sum, plus(sum, lane_sum));
    if here {
        for (var i = 0u; i < lane; i++) {
            let k = local * lane + i;
            if k < FEATURES && finite(row_at + k) {
                let distance = distance_at(row_at + k, highest);
                if distance <= most {
                    sum = plus(sum, vec2<u32>(weight(distance), 0u));
                    if less(target_sum, sum) {
                        indices[0] = k;
                        break;
                    }
                }
            }
        }
    }
    workgroupBarrier();
    return min(indices[0], FEATURES - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn choose(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let row = group.x + group.y * groups.x;
    let inside = row < params.rows;
    let at = select(0u, row, inside) * 4u;
    let live = inside && progress[at + 1u] == GOING;
    let row_at = row * FEATURES;

    let bad = first_bad(row_at, live, local);
    let highest = best(row_at, live, local, Place(0.0, NO_INDEX));
    let sum = log_sum(row_at, live, local, highest.value);
    let done = progress[at];
    var token = min(highest.index, FEATURES - 1u);
    if SAMPLE == 1u {
        let seed = vec2<u32>(settings[SEED], settings[SEED + 1u]);
        token = draw(row_at, live, local, highest.value, random(seed, row, done));
    }
    if !live || local != 0u || done >= settings[MOST] {
        return;
    }
    if bad != NO_INDEX {
        progress[at + 1u] = BAD;
        progress[at + 2u] = bad;
        progress[at + 3u] = x[row_at + bad];
        slots[row] = NO_SLOT;
        return;
    }
    output[row * settings[MOST] + done] = token;
    input[row] = token;
    let score = bitcast<f32>(progress[at + 2u]) + (logit(row_at + token) - highest.value - sum);
    progress[at] = done + 1u;
    progress[at + 2u] = bitcast<u32>(score);
    for (var e = 0u; e < settings[ENDS]; e++) {
        if settings[ENDS + 1u + e] == token {
            progress[at + 1u] = STOPPED;
            slots[row] = NO_SLOT;
        }
    }
}
