const BLOCKS: u32 = 2u;     // of unrolled.wgsl; private arrays take no override as their length
