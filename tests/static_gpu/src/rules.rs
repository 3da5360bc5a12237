//! What the code of a kernel must be: figures of it, and the table of their limits.

use std::collections::BTreeMap;

use crate::assembly::{self, Loop};
use crate::radv::Compiled;

/// Names of figures with their values. A figure that a kernel does not have is left out.
pub type Figures = BTreeMap<&'static str, f64>;

/// All figures, in the order of the record's columns.
pub const FIGURES: [&str; 16] = [
    "vgprs",                    // vector registers of an invocation
    "spilled",                  // registers that are kept in memory for want of room
    "scratch_bytes",            // private memory of an invocation
    "lds_bytes",                // workgroup memory
    "waves",                    // per SIMD
    "code_instructions",        // of the whole kernel
    "sum_instructions",         // of the largest loop that sums products and nothing else
    "sum_multiply_adds",        // in it
    "instructions_per_product", // of that loop
    "ladder_branches",          // most branches in such a loop: a register chosen by comparing its number
    "narrow_loads",             // most loads of 4 bytes in such a loop
    "loads_in_flight",          // most loads of 16 bytes in such a loop before the first is waited for
    "step_instructions",        // of the loop over timesteps, where a dispatch has one
    "step_barriers",            // in it
    "step_loads",               // from buffers in it
    "blind_waits",              // 1 where a loop that waits for other workgroups does not read what it waits for
];

/// Products in a loop from which on it is a sum.
const SUM: usize = 12;

/// The figures of a kernel called `name`.
pub fn figures(name: &str, compiled: &Compiled) -> Figures {
    let mut figures = Figures::new();
    let statistic = |wanted: &[&str]| -> f64 { wanted.iter().filter_map(|name| compiled.statistics.get(*name)).sum() };
    figures.insert("vgprs", statistic(&["VGPRs"]));
    figures.insert("spilled", statistic(&["Spilled VGPRs", "Spilled SGPRs"]));
    figures.insert("scratch_bytes", statistic(&["Scratch size"]));
    figures.insert("lds_bytes", statistic(&["LDS size"]));
    figures.insert("waves", statistic(&["Subgroups per SIMD"]));
    figures.insert("code_instructions", statistic(&["Instructions"]));
    if compiled.assembly.is_empty() {
        return figures;
    }
    let loops = assembly::loops(&compiled.assembly);
    of_sums(&loops, &mut figures);
    let has = |word: &str| name.split(' ').any(|one| one == word);
    if (has("sequence") || has("resident")) && has("held") {
        of_steps(&loops, &mut figures);
    }
    if has("resident") {
        let waits = |one: &&Loop| one.innermost && one.multiply_adds < SUM && one.loads > 0 && one.with_inner < 80;
        // It reads the message and, now and then, whether another gave up.
        let blind = !loops.iter().filter(waits).any(|one| one.loads >= 2);
        figures.insert("blind_waits", f64::from(u8::from(blind)));
    }
    figures
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn of_sums(loops: &[Loop], figures: &mut Figures) {
    let sums = || loops.iter().filter(|one| one.innermost && one.multiply_adds >= SUM && one.functions == 0);
    let most = |count: fn(&Loop) -> usize| sums().map(count).max().map(|most| most as f64);
    let Some(largest) = sums().max_by_key(|one| one.multiply_adds) else { return };
    figures.insert("sum_instructions", largest.instructions as f64);
    figures.insert("sum_multiply_adds", largest.multiply_adds as f64);
    figures.insert("instructions_per_product", largest.instructions as f64 / largest.multiply_adds as f64);
    figures.extend(most(|one| one.branches).map(|most| ("ladder_branches", most)));
    figures.extend(most(|one| one.narrow_loads).map(|most| ("narrow_loads", most)));
    figures.extend(most(|one| one.in_flight).map(|most| ("loads_in_flight", most)));
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn of_steps(loops: &[Loop], figures: &mut Figures) {
    // The cell stands in the loop over timesteps, or in a loop over rows or units in it.
    let Some(step) = loops.iter().max_by_key(|one| one.with_inner) else { return };
    figures.insert("step_instructions", step.with_inner as f64);
    figures.insert("step_barriers", loops.iter().map(|one| one.barriers).sum::<usize>() as f64);
    figures.insert("step_loads", step.loads as f64);
}

/// A row of the table of limits.
struct Limit {
    chips: String,
    words: Vec<String>,
    figure: &'static str,
    least: bool,
    value: f64,
    used: bool,
}

impl Limit {
    fn is_for(&self, chip: &str, words: &[&str], figure: &str) -> bool {
        (self.chips == "*" || self.chips.split(' ').any(|one| one == chip))
            && self.figure == figure
            && self.words.iter().all(|word| words.contains(&word.as_str()))
    }
}

/// The table: of the rows that match a kernel's chip and words, the last for each figure holds.
pub struct Limits(Vec<Limit>);

impl Limits {
    /// Reads `chip,kernel,figure,bound,value`; `*` stands for all, lines with `#` and the first are skipped.
    pub fn read(text: &str) -> Result<Self, String> {
        let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let row = |line: &str| {
            let wrong = |what: &str| format!("limits: {what} in `{line}`");
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [chips, words, figure, bound, value] =
                fields[..].try_into().map_err(|_| wrong("expected 5 fields, found another number"))?;
            let figure = FIGURES.into_iter().find(|one| *one == figure).ok_or_else(|| wrong("unknown figure"))?;
            let least = match bound {
                "<=" => false,
                ">=" => true,
                _ => return Err(wrong("expected <= or >=")),
            };
            let value = value.parse().map_err(|_| wrong("expected a number"))?;
            let words = words.split(' ').filter(|word| *word != "*").map(Into::into).collect();
            Ok(Limit { chips: chips.into(), words, figure, least, value, used: false })
        };
        rows.map(row).collect::<Result<_, _>>().map(Self)
    }

    /// What is wrong with the figures of the kernel `name` on `chip`.
    pub fn faults(&mut self, chip: &str, name: &str, figures: &Figures) -> Vec<String> {
        let words: Vec<&str> = name.split(' ').collect();
        let mut faults = Vec::new();
        for (figure, &found) in figures {
            let Some(limit) = self.0.iter_mut().filter(|limit| limit.is_for(chip, &words, figure)).last() else {
                continue;
            };
            limit.used = true;
            let (holds, bound) =
                if limit.least { (found >= limit.value, "at least") } else { (found <= limit.value, "at most") };
            if !holds {
                faults.push(format!("{chip}: {name}: {figure} {found:.2}, expected {bound} {}", limit.value));
            }
        }
        faults
    }

    /// Whether the table has a limit for a figure of the kernel `name` on `chip`.
    pub fn has(&self, chip: &str, name: &str, figure: &str) -> bool {
        let words: Vec<&str> = name.split(' ').collect();
        self.0.iter().any(|limit| limit.is_for(chip, &words, figure))
    }

    /// Rows for `chip` that no kernel came under: they check nothing.
    pub fn unused(&self, chip: &str) -> Vec<String> {
        let of_chip = |limit: &&Limit| limit.chips.split(' ').any(|one| one == chip);
        let unused = self.0.iter().filter(|limit| !limit.used).filter(of_chip);
        unused
            .map(|limit| format!("{chip}: limits: no kernel `{}` has {}", limit.words.join(" "), limit.figure))
            .collect()
    }
}
