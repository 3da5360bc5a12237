const BLOCKS: u32 = 1u;     // of unrolled.wgsl; private arrays take no override as their length
