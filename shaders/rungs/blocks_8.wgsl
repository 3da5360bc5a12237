const BLOCKS: u32 = 8u;     // of unrolled.wgsl; private arrays take no override as their length
