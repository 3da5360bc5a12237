// A tile of a matrix product on matrix units, for kernels that load the factors.
//
// A workgroup makes BLOCKS blocks of SIDE rows by STRIPS strips of SIDE columns, a subgroup one
// strip of all blocks. The size of a subgroup is not known before it runs: a workgroup has as many
// invocations as STRIPS of the largest need. If subgroups are smaller, the surplus ones only load factors.

override STRIPS: u32 = 4u;
override BLOCKS: u32 = 4u;           // 1, 2 or 4
override SUBGROUP: u32 = 32u;        // invocations of the largest subgroup

const SLICE: u32 = 32u;              // K in workgroup memory at a time
const PAD: u32 = 8u;                 // rows then begin in different banks; 16 bytes, as loads are aligned
const LEFT_STRIDE: u32 = SLICE + PAD;
const RIGHT_STRIDE: u32 = SLICE + PAD;
override GROUP: u32 = STRIPS * SUBGROUP;
override ROWS: u32 = BLOCKS * SIDE;
override COLUMNS: u32 = STRIPS * SIDE;
override LEFT_SIZE: u32 = ROWS * LEFT_STRIDE;
override RIGHT_SIZE: u32 = COLUMNS * RIGHT_STRIDE;
override SUMS_SIZE: u32 = SIDE * COLUMNS;

var<workgroup> left: array<f16, LEFT_SIZE>;      // [row][k]
var<workgroup> right: array<f16, RIGHT_SIZE>;    // [column][k], as matrix units take it: wide loads
var<workgroup> sums: array<f32, SUMS_SIZE>;      // [row of one block][column]

var<private> sums_0: Sums;
var<private> sums_1: Sums;
var<private> sums_2: Sums;
var<private> sums_3: Sums;

fn left_at(row: u32, k: u32) -> u32 {
    return row * LEFT_STRIDE + k;
}

fn right_at(k: u32, column: u32) -> u32 {
    return column * RIGHT_STRIDE + k;
}

fn clear_sums() {
    sums_0 = Sums();
    sums_1 = Sums();
    sums_2 = Sums();
    sums_3 = Sums();
}

// Adds the product of what lies in workgroup memory. `T`: row by row, without it column by column.
fn add_product(subgroup: u32) {
    if subgroup < STRIPS {
        for (var k = 0u; k < SLICE; k += SIDE) {
            let columns = coopLoad<Right>(&right[right_at(k, subgroup * SIDE)], RIGHT_STRIDE);
            sums_0 = coopMultiplyAdd(coopLoadT<Left>(&left[left_at(0u, k)], LEFT_STRIDE), columns, sums_0);
            if BLOCKS > 1u {
                sums_1 = coopMultiplyAdd(coopLoadT<Left>(&left[left_at(SIDE, k)], LEFT_STRIDE), columns, sums_1);
            }
            if BLOCKS > 2u {
                sums_2 = coopMultiplyAdd(coopLoadT<Left>(&left[left_at(2u * SIDE, k)], LEFT_STRIDE), columns, sums_2);
                sums_3 = coopMultiplyAdd(coopLoadT<Left>(&left[left_at(3u * SIDE, k)], LEFT_STRIDE), columns, sums_3);
            }
        }
    }
}

// Stores the sums of one block in workgroup memory.
fn spread_sums(block: u32, subgroup: u32) {
    if subgroup < STRIPS {
        let at = subgroup * SIDE;
        switch block {
            case 0u: { coopStoreT(sums_0, &sums[at], COLUMNS); }
            case 1u: { coopStoreT(sums_1, &sums[at], COLUMNS); }
            case 2u: { coopStoreT(sums_2, &sums[at], COLUMNS); }
            default: { coopStoreT(sums_3, &sums[at], COLUMNS); }
        }
    }
}
