//! Plans for GPUs that are not here, and the record of what compilers make of their kernels.

use gatefold::network::{LayerSpec, WeightFormat};
use gatefold::unstable::plan::{CHIPS, Chip, Constants, Kernel, PlanParts, source_mark};
use gatefold::{Plan, PlanOptions, RunShape, Strategy};

use super::plan::around;
use crate::common::lstm;

/// Weights stay in registers only where a workgroup has as many, and several workgroups share a step that is long for one.
#[test]
fn registers_and_multiply_adds_decide() {
    let chosen = |hidden: usize, format: WeightFormat, batch: usize, chip: &str| {
        let network = around(LayerSpec::Lstm(lstm(8, hidden))).with_weights(format).unwrap();
        let limits = Chip::named(chip).unwrap().limits;
        let plan = Plan::new(&network, RunShape::new(20, batch), &limits, &PlanOptions::default()).unwrap();
        let choice = &plan.choices[0];
        (choice.strategy, choice.reason.contains("weights in registers"))
    };
    use Strategy::{Resident, Sequence, Tile};
    use WeightFormat::{F16, F32, Int8};
    // U of H 128 in f32 is the whole register file of 64 Ki words, and half of RDNA's.
    assert_eq!(chosen(128, F32, 1, "navi31"), (Sequence, true));
    assert_eq!(chosen(128, F32, 16, "vega20"), (Sequence, false));
    assert_eq!(chosen(128, F32, 1, "vega20"), (Resident, true), "256 KiB to be read by one workgroup");
    assert_eq!(chosen(64, F32, 1, "vega20"), (Sequence, true));
    assert_eq!(chosen(128, F16, 1, "sm_80"), (Sequence, true));
    // 262,144 multiply-adds are too many for one workgroup, however few bytes they are.
    for chip in ["navi31", "sm_90"] {
        assert_eq!(chosen(256, Int8, 1, chip), (Resident, true), "{chip}");
    }
    assert_eq!(chosen(256, Int8, 16, "navi31").0, Sequence, "rows that keep the GPU busy");
    // 16 MiB of U: in the registers of 128 workgroups, where as many run at once.
    assert_eq!(chosen(1024, F32, 1, "navi31"), (Resident, true));
    assert_eq!(chosen(1024, F32, 1, "sm_90"), (Resident, true));
    assert_eq!(chosen(1024, F32, 1, "sm_80").0, Strategy::Step);
    assert_eq!(chosen(1024, F32, 128, "sm_80").0, Tile);
}

/// The record of compiled kernels is of this version; where it is not, `tests/static_gpu/run.sh --record` writes it anew.
#[test]
fn recorded_code_is_that_of_these_kernels() {
    for chip in CHIPS {
        let mut found = 0;
        for (hidden, format) in [(128, WeightFormat::F32), (512, WeightFormat::F16), (256, WeightFormat::Int8)] {
            for layer in [LayerSpec::Lstm(lstm(8, hidden)), LayerSpec::Gru(lstm(8, hidden))] {
                let network = around(layer).with_weights(format).unwrap();
                let plan = Plan::new(&network, RunShape::new(20, 1), &chip.limits, &PlanOptions::default()).unwrap();
                for dispatch in PlanParts::of(&plan).dispatches.iter().filter(|one| one.recurrence.is_some()) {
                    let code = chip.code_of(dispatch);
                    let name = dispatch.kernel.spec().name;
                    let code = code.unwrap_or_else(|| panic!("{}: {name}: no record", chip.name));
                    assert!(code.current, "{}: {name}: recorded of another version", chip.name);
                    assert!(code.figure("vgprs").is_some_and(|count| count > 20.0), "{}: {name}", chip.name);
                    found += 1;
                }
            }
        }
        assert_eq!(found, 6, "{}", chip.name);
    }
    let mark = |kernel: Kernel| source_mark(kernel, &Constants::default());
    assert_ne!(mark(Kernel::Softmax), mark(Kernel::ArgMax), "another source has another mark");
}
