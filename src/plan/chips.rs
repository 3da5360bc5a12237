//! GPUs that plans can be made for, and kernels compiled, where there is none.

use super::{ConstantValue, Constants, Dispatch, Kernel, MatrixSide, MatrixUnits, PlanLimits, Repetition};

/// A GPU whose compiler is at hand.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Chip {
    /// Mesa's name of it, or NVIDIA's of its architecture.
    pub name: &'static str,
    /// A card with it.
    pub card: &'static str,
    /// Compute units (two of which are a workgroup processor of RDNA), or multiprocessors.
    pub units: u32,
    /// The clock that its maker names for sustained work, GHz.
    pub gigahertz: f64,
    /// Bytes that memory and caches outside the chip's L2 move in a nanosecond.
    pub bytes_per_nanosecond: f64,
    /// What an adapter with it allows.
    pub limits: PlanLimits,
}

const fn limits(workgroup_memory: u32, resident_workgroups: u32, registers: u32) -> PlanLimits {
    PlanLimits {
        max_binding: 0xffff_fffc,
        max_buffer: 2 << 30,
        max_workgroups: 65_535,
        max_invocations: 1024,
        max_workgroup_memory: workgroup_memory,
        resident_workgroups,
        registers,
        f16: true,
        matrix_units: None,
        software: false,
        subgroup: 0,
        unrolls: false,
    }
}

const KIB: u32 = 1 << 10;
/// Registers of a workgroup, words, as `gpu::context` finds them: of RDNA, and of all others.
const RDNA: u32 = 128 * KIB;
const OTHERS: u32 = 64 * KIB;
const MATRIX: Option<MatrixUnits> = Some(MatrixUnits { side: MatrixSide::Sixteen, subgroup: 64 });

/// All of them. How many workgroups run at once follows from their registers: 512 invocations of 120 are 61,440, a workgroup
/// processor of RDNA 3 and 4 has 196,608 (RX 7900 XTX, RX 9070 XT), of RDNA 2 131,072, a compute unit of GCN 65,536, a
/// multiprocessor 65,536. Clocks and bandwidths are the makers'.
pub const CHIPS: [Chip; 6] = [
    Chip {
        name: "navi21",
        card: "Radeon RX 6900 XT",
        units: 80,
        gigahertz: 2.0,
        bytes_per_nanosecond: 512.0,
        limits: limits(64 * KIB, 80, RDNA),
    },
    Chip {
        name: "navi31",
        card: "Radeon RX 7900 XTX",
        units: 96,
        gigahertz: 2.3,
        bytes_per_nanosecond: 960.0,
        limits: PlanLimits { matrix_units: MATRIX, ..limits(64 * KIB, 144, RDNA) },
    },
    Chip {
        name: "gfx1201",
        card: "Radeon RX 9070 XT",
        units: 64,
        gigahertz: 2.4,
        bytes_per_nanosecond: 640.0,
        limits: limits(64 * KIB, 96, RDNA),
    },
    Chip {
        name: "vega20",
        card: "Radeon VII",
        units: 60,
        gigahertz: 1.4,
        bytes_per_nanosecond: 1024.0,
        limits: limits(64 * KIB, 60, OTHERS),
    },
    Chip {
        name: "sm_80",
        card: "NVIDIA A100",
        units: 108,
        gigahertz: 1.41,
        bytes_per_nanosecond: 1555.0,
        limits: limits(48 * KIB, 108, OTHERS),
    },
    Chip {
        name: "sm_90",
        card: "NVIDIA H100",
        units: 132,
        gigahertz: 1.7,
        bytes_per_nanosecond: 3350.0,
        limits: limits(48 * KIB, 132, OTHERS),
    },
];

/// The constants that a recurrent kernel's code depends on as a rule: its sizes.
const SIZES: [&str; 7] = ["WIDTH", "UNITS", "SPLIT", "QUADS", "BLOCKS", "STRIPS", "ROWS"];

/// Sizes of a kernel as `NAME=value`, by which a record of its code is found.
#[must_use]
pub fn sizes_text(constants: &Constants) -> String {
    let size = |name: &&'static str| Some(format!("{name}={}", constants.get(name).map(ConstantValue::number)?));
    SIZES.iter().filter_map(size).collect::<Vec<_>>().join(" ")
}

/// A number of a kernel's source (FNV-1a), by which a record of its code is known to be of this version.
#[must_use]
pub fn source_mark(kernel: Kernel, constants: &Constants) -> String {
    let source = kernel.source(constants, Repetition::Immediate);
    let mark = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |mark, byte| (mark ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{mark:016x}")
}

/// A row of the record of a chip: what its compiler made of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeRecord {
    /// Names of the figures with their values; a figure that the kernel does not have is left out.
    pub figures: Vec<(&'static str, &'static str)>,
    /// Whether it is of this version's source.
    pub current: bool,
}

impl CodeRecord {
    /// A figure as a number.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(found, _)| *found == name).and_then(|(_, value)| value.parse().ok())
    }
}

impl Chip {
    /// The whole record, `benches/record/static-gpu/CHIP.csv`.
    #[must_use]
    pub fn record(&self) -> &'static str {
        match self.name {
            "navi21" => include_str!("../../benches/record/static-gpu/navi21.csv"),
            "navi31" => include_str!("../../benches/record/static-gpu/navi31.csv"),
            "gfx1201" => include_str!("../../benches/record/static-gpu/gfx1201.csv"),
            "vega20" => include_str!("../../benches/record/static-gpu/vega20.csv"),
            "sm_80" => include_str!("../../benches/record/static-gpu/sm_80.csv"),
            _ => include_str!("../../benches/record/static-gpu/sm_90.csv"),
        }
    }

    /// What the record has of a dispatch's kernel with its sizes.
    #[must_use]
    pub fn code_of(&self, dispatch: &Dispatch) -> Option<CodeRecord> {
        let mut lines = self.record().lines().skip(1);
        let names: Vec<&'static str> = lines.next()?.split(',').collect();
        let (name, sizes) = (dispatch.kernel.spec().name, sizes_text(&dispatch.constants));
        let mark = source_mark(dispatch.kernel, &dispatch.constants);
        // The record is of recurrences alone in every size; of other kernels the sizes do not matter.
        let in_every_size = dispatch.recurrence.is_some();
        let rows = lines.map(|line| line.split(',').collect::<Vec<_>>());
        let mut found = rows.filter(|row| {
            row.get(1) == Some(&name.as_str()) && (!in_every_size || row.get(2) == Some(&sizes.as_str()))
        });
        let row = found.next()?;
        let figures =
            names.iter().copied().zip(row.iter().copied()).skip(4).filter(|(_, value)| !value.is_empty()).collect();
        Some(CodeRecord { figures, current: row.get(3) == Some(&mark.as_str()) })
    }

    /// The chip called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CHIPS.into_iter().find(|chip| chip.name == name)
    }
}
