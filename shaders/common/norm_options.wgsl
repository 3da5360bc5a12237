// What a layer-normalized cell normalizes, and where the weights and biases of its normalizations lie.

override NORM_PARTS: u32 = 0u;       // 1 where W x and U h are normalized apart, 0 where their sum is
override NORM_CELL: u32 = 0u;        // what becomes of the normalized c: NORM_NONE, NORM_STATE or NORM_OUTPUT
override EPS: f32;

// Values of NORM_CELL.
const NORM_NONE: u32 = 0u;           // c is not normalized
const NORM_STATE: u32 = 1u;          // it is the new c
const NORM_OUTPUT: u32 = 2u;         // the output alone sees it

// Parts of a lane's vectors, after those of every cell.
const NORM_INPUT_WEIGHT: u32 = 5u;   // of W x, or of W x + U h
const NORM_INPUT_BIAS: u32 = 6u;
const NORM_STATE_WEIGHT: u32 = 7u;   // of U h
const NORM_STATE_BIAS: u32 = 8u;
const NORM_C_WEIGHT: u32 = 9u;       // [H], of c
const NORM_C_BIAS: u32 = 10u;
