// Rows of states to and from the slots of a pool: gathered, to[r] = from[slots[r]], or scattered,
// to[slots[r]] = from[r]. A row without a slot reads 0 and writes nothing. Reference: src/reference/slots.rs.

override WIDTH: u32;               // numbers of one row
override SCATTER: u32 = 0u;        // 1 where the pool is written, 0 where it is read
override WORKGROUP: u32 = 64u;

const NO_SLOT: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;                      // rows = B
@group(0) @binding(1) var<storage, read> slots: array<u32>;             // [B]
@group(0) @binding(2) var<storage, read> source: array<f32>;            // [S, WIDTH] or [.., B, WIDTH]
@group(0) @binding(3) var<storage, read_write> output: array<f32>;      // [.., B, WIDTH] or [S, WIDTH]

@compute @workgroup_size(WORKGROUP)
fn slots_move(
    @builtin(local_invocation_index) local: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let index = (group.x + group.y * groups.x) * WORKGROUP + local;
    let row = index / WIDTH;
    if row >= params.rows {
        return;
    }
    let column = index % WIDTH;
    let slot = slots[row];
    if SCATTER == 1u {
        if slot != NO_SLOT {
            output[slot * WIDTH + column] = source[(params.input_row + row) * WIDTH + column];
        }
    } else {
        // The index is never out of bounds, in either case.
        let read = source[select(slot, 0u, slot == NO_SLOT) * WIDTH + column];
        output[(params.output_row + row) * WIDTH + column] = select(read, 0.0, slot == NO_SLOT);
    }
}
