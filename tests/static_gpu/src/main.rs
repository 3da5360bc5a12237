//! Compiles the kernels that plans choose for GPUs that are not there, and checks the code that comes out.
//!
//! ```text
//! static_gpu amd CHIP LIMITS RECORD [ASSEMBLY]    on the Vulkan device that there is: Mesa's RADV, started by `run.sh`
//! ```
//!
//! Exit code 1: a kernel breaks a rule, a negative control breaks none, or the record is not that of this code.
#![allow(clippy::print_stdout, reason = "a command")]

mod assembly;
mod controls;
mod nvidia;
mod permutations;
mod radv;
mod rules;
mod translate;

use std::fmt::Write as _;
use std::process::ExitCode;

use gatefold::unstable::plan::{Chip, Repetition, sizes_text, source_mark};
use naga::back::PipelineConstants;
use permutations::Permutation;
use rules::{FIGURES, Figures, Limits};
use translate::Translated;

const USAGE: &str = "expected: static_gpu amd CHIP LIMITS RECORD [ASSEMBLY], or \
    static_gpu nvidia CHIP LIMITS RECORD CLANG PTXAS INCLUDE FOLDER";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["amd", chip, limits, record] => amd(chip, limits, record, None),
        ["amd", chip, limits, record, assembly] => amd(chip, limits, record, Some(assembly)),
        ["nvidia", chip, limits, record, clang, ptxas, include, folder] => {
            let tools = nvidia::Toolchain { clang, ptxas, include, folder: folder.as_ref() };
            of_nvidia(chip, limits, record, &tools)
        }
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            faults.iter().for_each(|fault| println!("{fault}"));
            println!("{} faults", faults.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("static_gpu: {error}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The kernel with its constants for a compiler.
fn translated(permutation: &Permutation) -> Result<Translated, String> {
    let source = permutation.kernel.source(&permutation.constants, Repetition::Immediate);
    let constants: PipelineConstants =
        permutation.constants.iter().map(|(name, value)| (name.into(), value.number())).collect();
    Translated::new(&source, permutation.kernel.spec().entry_point, &constants)
}

/// Compiles all kernels of `chip` with `compile`, checks them and writes the record.
fn checked(
    chip: &str,
    limits: &str,
    record: &str,
    compiler: &str,
    compile: impl Fn(&Translated, &Permutation) -> Result<Figures, String>,
) -> Result<Vec<String>, String> {
    let mut limits = Limits::read(&read(limits)?)?;
    let chosen = Chip::named(chip).ok_or_else(|| format!("{chip}: no such chip"))?;
    let permutations = permutations::permutations(&chosen.limits)?;
    let mut faults = Vec::new();
    let mut rows = format!("# {compiler}\nplan,kernel,sizes,source,workgroups,group,{}\n", FIGURES.join(","));
    for one in &permutations {
        let compiled = translated(one).and_then(|kernel| Ok((compile(&kernel, one)?, kernel)));
        match compiled {
            Ok((figures, kernel)) => {
                faults.extend(limits.faults(chip, &one.name, &figures));
                row(&mut rows, one, kernel.workgroup(), &figures);
            }
            Err(error) => faults.push(format!("{chip}: {}: {error}", one.name)),
        }
    }
    faults.extend(limits.unused(chip).into_iter().filter(|fault| !fault.contains("`probe`")));
    std::fs::write(record, rows).map_err(|error| format!("{record}: {error}"))?;
    println!("{chip}: {} kernels, {} faults", permutations.len(), faults.len());
    Ok(faults)
}

fn amd(chip: &str, limits: &str, record: &str, assembly: Option<&str>) -> Result<Vec<String>, String> {
    let driver = radv::Driver::open()?;
    println!("{chip}: {}", driver.name);
    let mut faults = controls::unbroken(&driver, chip, &mut Limits::read(&read(limits)?)?)?;
    faults.extend(controls::probe(&driver, chip, &mut Limits::read(&read(limits)?)?)?);
    let found = checked(chip, limits, record, &driver.name, |kernel, one| {
        let compiled = driver.compile(kernel, one.kernel.spec().entry_point)?;
        if let Some(folder) = assembly {
            let path = format!("{folder}/{}.txt", one.name.replace(' ', "_"));
            std::fs::write(&path, &compiled.assembly).map_err(|error| format!("{path}: {error}"))?;
        }
        Ok(rules::figures(&one.name, &compiled))
    })?;
    faults.extend(found);
    Ok(faults)
}

fn of_nvidia(chip: &str, limits: &str, record: &str, tools: &nvidia::Toolchain<'_>) -> Result<Vec<String>, String> {
    checked(chip, limits, record, &tools.version()?, |kernel, one| {
        let statistics = tools.compile(kernel, one.kernel.spec().entry_point, &one.name, chip)?;
        Ok(rules::figures(&one.name, &radv::Compiled { statistics, assembly: String::new() }))
    })
}

fn row(rows: &mut String, one: &Permutation, group: [u32; 3], figures: &Figures) {
    let [x, y, z] = one.workgroups;
    let [units, second, _] = group;
    let (name, sizes) = (one.kernel.spec().name, sizes_text(&one.constants));
    let mark = source_mark(one.kernel, &one.constants);
    let _ = write!(rows, "{},{name},{sizes},{mark},{x}x{y}x{z},{units}x{second}", one.plan);
    for figure in FIGURES {
        match figures.get(figure) {
            Some(value) if value.fract() == 0.0 => {
                let _ = write!(rows, ",{value:.0}");
            }
            Some(value) => {
                let _ = write!(rows, ",{value:.2}");
            }
            None => rows.push(','),
        }
    }
    rows.push('\n');
}
