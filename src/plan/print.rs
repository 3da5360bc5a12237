//! A plan as text.

use std::fmt::{self, Display, Formatter};

use super::Plan;
use crate::base::printable::printable;

/// Most characters of a stage's name: it comes from a file and may have any length.
const NAME: usize = 100;
/// Most characters of a reason or of a buffer's label, which have names in them.
const LABEL: usize = 400;

/// `bytes` in the largest binary unit that keeps it at 1 or more.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let exponent = (bytes.max(1).ilog2() / 10).min(3);
    match exponent {
        0 => format!("{bytes} B"),
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        _ => format!("{:.1} {}", bytes as f64 / f64::from(1u32 << (10 * exponent)), UNITS[exponent as usize]),
    }
}

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan for T = {}, B = {}", self.steps, self.batch)?;
        let stages: Vec<String> = self.stages.iter().map(|stage| printable(stage, NAME)).collect();
        let passes = [(&self.choices, ""), (&self.backward, " backward")];
        for (choice, pass) in passes.into_iter().flat_map(|(choices, pass)| choices.iter().map(move |one| (one, pass)))
        {
            let labels = &stages[choice.stage..choice.stage + choice.stages];
            let label = match labels {
                [first, .., last] => format!("{first}..{last}"),
                _ => labels.concat(),
            };
            writeln!(f, "  {label}{pass}: {}: {}", choice.strategy, printable(&choice.reason, LABEL))?;
        }
        for reason in &self.reasons {
            writeln!(f, "  {}", printable(reason, LABEL))?;
        }
        writeln!(
            f,
            "\n{} dispatches in {} submission{}",
            self.dispatch_count(),
            self.submissions(),
            if self.submissions() == 1 { "" } else { "s" }
        )?;
        let kernels = self.dispatches.iter().map(|dispatch| dispatch.kernel.spec().name.len());
        let kernel_width = kernels.max().unwrap_or(0).max(6);
        let stage_width = stages.iter().map(|stage| stage.chars().count()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "  {:<stage_width$}  {:<kernel_width$}  {:>7}  {:>16}  {:>10}  constants",
            "stage", "kernel", "repeat", "workgroups", "iterations"
        )?;
        for dispatch in &self.dispatches {
            writeln!(
                f,
                "  {:<stage_width$}  {:<kernel_width$}  {:>7}  {:>16}  {:>10}  {}",
                stages[dispatch.stage],
                dispatch.kernel.spec().name,
                format!("x{}", dispatch.repeat),
                dispatch.workgroups.map(|n| n.to_string()).join(" x "),
                dispatch.iterations,
                dispatch.constants_text()
            )?;
        }
        let of_weights: u64 = self.buffers[..self.weights].iter().map(|buffer| buffer.bytes).sum();
        match &self.train {
            None => writeln!(f, "\n{} on the device, {} of it weights", bytes(self.bytes()), bytes(of_weights))?,
            Some(train) => {
                writeln!(f, "\n{} on the device", bytes(self.bytes()))?;
                for (kind, size) in &train.memory {
                    writeln!(f, "  {:>10}  {kind}", bytes(*size))?;
                }
                writeln!(f, "  {:>10}  arrays of one step", bytes(self.bytes() - of_weights))?;
                writeln!(f, "\nbuffers")?;
            }
        }
        for buffer in &self.buffers {
            writeln!(f, "  {:>10}  {}", bytes(buffer.bytes), printable(&buffer.label, LABEL))?;
        }
        Ok(())
    }
}
