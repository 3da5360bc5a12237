// Measures how many workgroups run at the same time: each increments a counter and then waits. The
// result is the count that the first of them reads before it ends.
//
// A workgroup is as large as the largest that holds weights in registers (rungs/resident.wgsl), and takes as many registers.
// All its invocations stay until the last: those that left would make room for further workgroups.

override GROUP: u32 = 64u;       // invocations of a workgroup
override MAX_LOOKS: u32 = 1u;     // reads of the counter before a workgroup ends

@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>; // arrived, and found by the first; then zeros

// Zeros that compilers cannot know.
fn four(at: u32) -> vec4<u32> {
    return vec4<u32>(
        atomicLoad(&counts[at + 2u]), atomicLoad(&counts[at + 3u]), atomicLoad(&counts[at + 4u]), atomicLoad(&counts[at + 5u]),
    );
}

@compute @workgroup_size(GROUP)
fn probe(@builtin(local_invocation_index) index: u32) {
    // 108 words that are held until the end. Not an array, which would be memory to some compilers, and not the same words in all
    // invocations, which one register would hold for many.
    let held_0 = four(0u + index % 2u);
    let held_1 = four(4u + index % 2u);
    let held_2 = four(8u + index % 2u);
    let held_3 = four(12u + index % 2u);
    let held_4 = four(16u + index % 2u);
    let held_5 = four(20u + index % 2u);
    let held_6 = four(24u + index % 2u);
    let held_7 = four(28u + index % 2u);
    let held_8 = four(32u + index % 2u);
    let held_9 = four(36u + index % 2u);
    let held_10 = four(40u + index % 2u);
    let held_11 = four(44u + index % 2u);
    let held_12 = four(48u + index % 2u);
    let held_13 = four(52u + index % 2u);
    let held_14 = four(56u + index % 2u);
    let held_15 = four(60u + index % 2u);
    let held_16 = four(64u + index % 2u);
    let held_17 = four(68u + index % 2u);
    let held_18 = four(72u + index % 2u);
    let held_19 = four(76u + index % 2u);
    let held_20 = four(80u + index % 2u);
    let held_21 = four(84u + index % 2u);
    let held_22 = four(88u + index % 2u);
    let held_23 = four(92u + index % 2u);
    let held_24 = four(96u + index % 2u);
    let held_25 = four(100u + index % 2u);
    let held_26 = four(104u + index % 2u);
    if index == 0u {
        let arrived = atomicAdd(&counts[0], 1u);
        var found = 0u;
        for (var look = 0u; look < MAX_LOOKS; look++) {
            found = atomicLoad(&counts[0]);
        }
        if arrived == 0u {
            atomicStore(&counts[1], found);
        }
    }
    workgroupBarrier();
    var sum = vec4<u32>();
    sum = sum * 3u + held_0;
    sum = sum * 3u + held_1;
    sum = sum * 3u + held_2;
    sum = sum * 3u + held_3;
    sum = sum * 3u + held_4;
    sum = sum * 3u + held_5;
    sum = sum * 3u + held_6;
    sum = sum * 3u + held_7;
    sum = sum * 3u + held_8;
    sum = sum * 3u + held_9;
    sum = sum * 3u + held_10;
    sum = sum * 3u + held_11;
    sum = sum * 3u + held_12;
    sum = sum * 3u + held_13;
    sum = sum * 3u + held_14;
    sum = sum * 3u + held_15;
    sum = sum * 3u + held_16;
    sum = sum * 3u + held_17;
    sum = sum * 3u + held_18;
    sum = sum * 3u + held_19;
    sum = sum * 3u + held_20;
    sum = sum * 3u + held_21;
    sum = sum * 3u + held_22;
    sum = sum * 3u + held_23;
    sum = sum * 3u + held_24;
    sum = sum * 3u + held_25;
    sum = sum * 3u + held_26;
    if any(sum != vec4<u32>()) {
        atomicStore(&counts[2], sum.x + sum.y + sum.z + sum.w);
    }
}
