const BLOCKS: u32 = 16u;     // of unrolled.wgsl; private arrays take no override as their length
