//! Loops of AMD's instructions as Mesa's compiler (ACO) prints them.

use std::collections::BTreeMap;

/// Counts of instructions in a loop, without those of the loops in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loop {
    /// Whether no other loop lies in it.
    pub innermost: bool,
    /// All instructions.
    pub instructions: usize,
    /// All instructions, with those of the loops in it.
    pub with_inner: usize,
    /// Multiply-adds of numbers, and products that begin a sum; a matrix instruction counts as 8.
    pub multiply_adds: usize,
    /// Exponentials, logarithms and reciprocals: those of a cell.
    pub functions: usize,
    /// Branches.
    pub branches: usize,
    /// Barriers of the workgroup.
    pub barriers: usize,
    /// Loads from buffers, atomic ones too.
    pub loads: usize,
    /// Those of 4 bytes.
    pub narrow_loads: usize,
    /// Most loads of 16 bytes that are asked for before one is waited for.
    pub in_flight: usize,
}

/// The first and the last block of each loop: a loop is a branch back.
fn spans(blocks: &[(u32, Vec<&str>)]) -> BTreeMap<usize, usize> {
    let position: BTreeMap<u32, usize> = blocks.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    let mut spans = BTreeMap::new();
    for (at, (_, code)) in blocks.iter().enumerate() {
        for line in code.iter().filter(|line| is_branch(line)) {
            let target = line.split_whitespace().next_back().and_then(|word| word.strip_prefix("BB"));
            let Some(&first) = target.and_then(|name| name.parse().ok()).and_then(|name: u32| position.get(&name))
            else {
                continue;
            };
            if first <= at {
                let last = spans.entry(first).or_insert(at);
                *last = at.max(*last);
            }
        }
    }
    spans
}

/// The loops of a kernel, outer ones before those in them.
pub fn loops(assembly: &str) -> Vec<Loop> {
    let mut blocks: Vec<(u32, Vec<&str>)> = Vec::new();
    for line in assembly.lines() {
        let line = line.split(';').next().unwrap_or_default().trim();
        let name = line.strip_prefix("BB").and_then(|rest| rest.strip_suffix(':')).and_then(|name| name.parse().ok());
        if let Some(name) = name {
            blocks.push((name, Vec::new()));
        } else if let Some((_, code)) = blocks.last_mut().filter(|_| !line.is_empty() && !line.starts_with('(')) {
            code.push(line);
        }
    }
    let spans = spans(&blocks);
    let within =
        |inner: (&usize, &usize), outer: (&usize, &usize)| inner != outer && outer.0 <= inner.0 && inner.1 <= outer.1;
    spans
        .iter()
        .map(|span| {
            let inner: Vec<_> = spans.iter().filter(|one| within(*one, span)).collect();
            let in_inner = |at: usize| inner.iter().any(|(first, last)| (**first..=**last).contains(&at));
            let blocks = || (*span.0..=*span.1).map(|at| (at, &blocks[at].1));
            let own: Vec<&str> = blocks().filter(|(at, _)| !in_inner(*at)).flat_map(|(_, code)| code.clone()).collect();
            let with_inner = blocks().map(|(_, code)| code.len()).sum();
            Loop { innermost: inner.is_empty(), with_inner, ..counted(&own) }
        })
        .collect()
}

fn is_branch(line: &str) -> bool {
    line.starts_with("s_branch") || line.starts_with("s_cbranch")
}

fn starts(line: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| line.starts_with(start))
}

/// The width of a load from a buffer in bytes.
fn load_bytes(line: &str) -> Option<usize> {
    if starts(line, &["buffer_atomic", "global_atomic"]) {
        return Some(4);
    }
    let kind = line.strip_prefix("buffer_load_").or_else(|| line.strip_prefix("global_load_"))?;
    match kind.split_whitespace().next()? {
        "b128" | "dwordx4" => Some(16),
        "b96" | "dwordx3" => Some(12),
        "b64" | "dwordx2" => Some(8),
        "b32" | "dword" => Some(4),
        _ => Some(2),
    }
}

fn counted(code: &[&str]) -> Loop {
    const PRODUCTS: [&str; 12] = [
        "v_fmac_f32",
        "v_fma_f32",
        "v_mac_f32",
        "v_mad_f32",
        "v_mul_f32",
        "v_fmaak_f32",
        "v_fmamk_f32",
        "v_fma_mix",
        "v_mad_mix",
        "v_dual_",
        "v_pk_fma",
        "v_pk_mul_f32",
    ];
    let count = |wanted: &dyn Fn(&str) -> bool| code.iter().filter(|line| wanted(line)).count();
    let matrix = 8 * count(&|line| line.starts_with("v_wmma"));
    let (mut in_flight, mut asked) = (0, 0);
    for line in code {
        if starts(line, &["s_waitcnt vmcnt", "s_waitcnt_vmcnt", "s_wait_loadcnt"]) || line.contains("vmcnt(") {
            asked = 0;
        }
        asked += usize::from(load_bytes(line) == Some(16));
        in_flight = in_flight.max(asked);
    }
    Loop {
        innermost: true,
        instructions: code.len(),
        with_inner: code.len(),
        multiply_adds: matrix + count(&|line| starts(line, &PRODUCTS)),
        functions: count(&|line| starts(line, &["v_exp_", "v_rcp_", "v_log_"])),
        branches: count(&is_branch),
        // RDNA 4 signals and waits apart.
        barriers: count(&|line| line.starts_with("s_barrier") && !line.starts_with("s_barrier_wait")),
        loads: count(&|line| load_bytes(line).is_some()),
        narrow_loads: count(&|line| load_bytes(line) == Some(4)),
        in_flight,
    }
}
