//! Sizes that the shaders have as constants; `mirrored.rs` compares them with the WGSL.

/// Side of the output tile of [`Tiling::Square`](super::Tiling::Square).
pub const LINEAR_TILE: u32 = 32;
/// Slice of K that [`Tiling::Square`](super::Tiling::Square) keeps in workgroup memory.
pub const LINEAR_DEPTH: u32 = 16;
/// Rows of the output tile of [`Tiling::Rows`](super::Tiling::Rows).
pub const ROWS_TILE: u32 = 16;
/// Columns of the same tile: 4 of each invocation.
pub const ROWS_COLUMNS: u32 = 256;
/// Slice of K that [`Tiling::Rows`](super::Tiling::Rows) keeps in workgroup memory.
pub const ROWS_DEPTH: u32 = 64;
/// Rows, and columns, of which an invocation takes products in `shaders/common/block.wgsl`.
pub const BLOCK_SIDE: u32 = 8;
/// Invocations of a workgroup of the kernels that do so: as many as a vector of a software adapter has numbers.
pub const BLOCK_WORKGROUP: u32 = 8;
/// Units that an invocation of `shaders/rungs/direct.wgsl` computes.
pub const DIRECT_UNITS: u32 = 2;
/// Rows that it computes.
pub const DIRECT_ROWS: u32 = 8;
/// Slice of K that kernels on matrix units keep in workgroup memory.
pub const MATRIX_SLICE: u32 = 32;
/// Blocks of rows in a workgroup on matrix units.
pub const MATRIX_BLOCKS: u32 = 4;
/// Strips of columns in a workgroup on matrix units, one per subgroup.
pub const MATRIX_STRIPS: u32 = 4;
/// Invocations of one workgroup of the row-wise kernels.
pub const ROW_WORKGROUP: u32 = 64;
/// Words of weights that an invocation keeps in registers (`shaders/rungs/held.wgsl`).
pub const HELD_WORDS: u64 = 16;
/// Quads of K that `shaders/rungs/step.wgsl` keeps in workgroup memory.
pub const STEP_SLICE: u64 = 256;
/// K that `shaders/rungs/tile.wgsl` keeps in workgroup memory.
pub const TILE_SLICE: u64 = 64;
