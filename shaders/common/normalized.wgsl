// The steps after the sums of a layer-normalized cell: mean and variance over a row, then the cell (Ba, Kiros & Hinton 2016).
// Reference: src/reference/normalized.rs. One workgroup takes a row; an invocation takes the same units in every loop.

var<workgroup> of_row: array<vec2<f32>, PARTIALS>;

// The mean over a row of two quantities that every invocation has summed up over its units.
fn row_mean(sum: vec2<f32>, index: u32, numbers: f32) -> vec2<f32> {
    of_row[index] = sum;
    for (var count = PARTIALS; count > 1u; count = (count + 1u) / 2u) {
        let half = (count + 1u) / 2u;
        workgroupBarrier();
        if index + half < count {
            of_row[index] += of_row[index + half];
        }
    }
    workgroupBarrier();
    let total = of_row[0];
    workgroupBarrier();
    return total / numbers;
}

fn sums_of(lane: u32, row: u32, step: u32, unit: u32) -> GateSums {
    let input = projected_at(projected_index(lane, row, step, unit));
    let state = sum_at(lane, row, unit);
    if NORM_PARTS == 1u {
        return GateSums(input, state);
    }
    return GateSums(input + state, Gates());
}

// The same, normalized.
fn normalized(lane: u32, sums: GateSums, mean: vec2<f32>, scale: vec2<f32>, unit: u32) -> GateSums {
    let input = (sums.input - mean.x) * scale.x * vector_at(vector(lane, NORM_INPUT_WEIGHT), unit)
        + vector_at(vector(lane, NORM_INPUT_BIAS), unit);
    if NORM_PARTS == 0u {
        return GateSums(input, Gates());
    }
    let state = (sums.state - mean.y) * scale.y * vector_at(vector(lane, NORM_STATE_WEIGHT), unit)
        + vector_at(vector(lane, NORM_STATE_BIAS), unit);
    return GateSums(input, state);
}

// The step of one row, from its sums to its output.
fn finish_row(lane: u32, row: u32, step: u32, index: u32) {
    let time = time_of(lane, step);
    let masked = is_masked(row, time);
    let ones = Gates(1.0);
    var sum = vec2<f32>();
    for (var unit0 = 0u; unit0 < WIDTH; unit0 += PARTIALS) {
        if unit0 + index < WIDTH {
            let sums = sums_of(lane, row, step, unit0 + index);
            sum += vec2(dot(sums.input, ones), dot(sums.state, ones));
        }
    }
    let mean = row_mean(sum, index, f32(WIDTH) * OF_UNIT);
    var squares = vec2<f32>();
    for (var unit0 = 0u; unit0 < WIDTH; unit0 += PARTIALS) {
        if unit0 + index < WIDTH {
            let sums = sums_of(lane, row, step, unit0 + index);
            let input = sums.input - mean.x;
            let state = sums.state - mean.y;
            squares += vec2(dot(input, input), dot(state, state));
        }
    }
    let scale = 1.0 / sqrt(row_mean(squares, index, f32(WIDTH) * OF_UNIT) + EPS);

    var of_c = vec2<f32>();
    var c_scale = vec2<f32>();
    if KEEPS_C {
        for (var unit0 = 0u; unit0 < WIDTH; unit0 += PARTIALS) {
            let unit = unit0 + index;
            if unit < WIDTH {
                let sums = normalized(lane, sums_of(lane, row, step, unit), mean, scale, unit);
                of_c.x += updated_c(lane, row, unit, sums, masked);
            }
        }
        if NORM_CELL != NORM_NONE {
            of_c = row_mean(of_c, index, f32(WIDTH));
            for (var unit0 = 0u; unit0 < WIDTH; unit0 += PARTIALS) {
                if unit0 + index < WIDTH {
                    let distance = cell[cell_index(lane, row, unit0 + index)] - of_c.x;
                    c_scale.x += distance * distance;
                }
            }
            c_scale = 1.0 / sqrt(row_mean(c_scale, index, f32(WIDTH)) + EPS);
        }
    }
    for (var unit0 = 0u; unit0 < WIDTH; unit0 += PARTIALS) {
        let unit = unit0 + index;
        if unit < WIDTH {
            let before = h_before(lane, row, step, unit);
            var result = before;
            var handed_on = 0.0;
            if masked {
                handed_on = masked_output(lane, row, time, before);
            } else {
                let sums = normalized(lane, sums_of(lane, row, step, unit), mean, scale, unit);
                result = updated_h(lane, row, unit, sums, of_c.x, c_scale.x, before);
                handed_on = result;
            }
            put_h(lane, row, step, unit, result);
            output[output_index(lane, row, time, unit)] = handed_on;
        }
    }
}
