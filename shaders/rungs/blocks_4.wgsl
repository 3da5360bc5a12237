const BLOCKS: u32 = 4u;     // of unrolled.wgsl; private arrays take no override as their length
