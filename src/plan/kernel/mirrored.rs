//! Numbers that both Rust and WGSL state: read from the WGSL and compared, each by its name.

use naga::{Expression, Literal, Module, TypeInner};

use super::sizes::{
    BLOCK_SIDE, BLOCK_WORKGROUP, DIRECT_ROWS, DIRECT_UNITS, HELD_WORDS, LINEAR_DEPTH, LINEAR_TILE, MATRIX_SLICE,
    ROWS_COLUMNS, ROWS_DEPTH, ROWS_TILE, STEP_SLICE, TILE_SLICE,
};
use super::{
    BackwardCell, BackwardKernel, BackwardRung, Blocks, Cells, Held, Kernel, ProductKernel, RecurrentKernel,
    Repetition, Rung, Tiling, TrainKernel,
};
use crate::base::bits;
use crate::network::{Activation, CellNorm, Combine, MaskedOutput, Pool, WeightFormat};
use crate::plan::builder::{matmul_flags, rule_number};
use crate::plan::constants::{LAST_VALID, activation_number, combination, masked_number, pool_number};
use crate::plan::decide_backward;
use crate::plan::program::cell_norm_number;
use crate::plan::train::{NORMS_HEAD, SEGMENT_DECAYS, SEGMENT_FROZEN};
use crate::plan::weights::part;
use crate::plan::{
    Arithmetic, CHOICE_BAD, CHOICE_HEAD, CHOICE_STOPPED, ConstantValue, Constants, Dispatch, Exchange, MatrixSide,
    PARAMS_SIZE,
};
use crate::reference::{Adagrad, Adam, RmsProp, Sgd};

/// `kernel` with the most functions, parsed.
fn module(kernel: Kernel) -> Module {
    let value = |float| if float { ConstantValue::from(0.0f32) } else { ConstantValue::from(4u32) };
    let constants = kernel.spec().constants;
    let constants = Constants::new(constants.iter().map(|constant| (constant.name, value(constant.float))));
    naga::front::wgsl::parse_str(&kernel.source(&constants, Repetition::Uniform)).expect("a kernel parses")
}

fn recurrent(cell: Cells, rung: Rung, format: WeightFormat, held: Held) -> Module {
    let arithmetic = if matches!(rung, Rung::TileMatrix(_)) { Arithmetic::Matrix } else { Arithmetic::F32 };
    module(Kernel::Recurrent(RecurrentKernel { cell, rung, format, arithmetic, held, keeps_sums: false }))
}

fn lstm(rung: Rung, held: Held) -> Module {
    recurrent(Cells::Lstm, rung, WeightFormat::F32, held)
}

fn linear(tiling: Tiling) -> Module {
    module(Kernel::Linear(ProductKernel { format: WeightFormat::F32, tiling }))
}

/// The `u32` constant `name` of a module.
fn constant(module: &Module, name: &str) -> Option<u32> {
    let (_, found) = module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
    match module.global_expressions[found.init] {
        Expression::Literal(Literal::U32(value)) => Some(value),
        _ => None,
    }
}

/// The constants of `module` that are not as Rust has them, by name.
fn differences(module: &Module, expected: &[(&str, u64)]) -> Vec<String> {
    let differs = |&(name, rust): &(&str, u64)| {
        let wgsl = constant(module, name).map(u64::from);
        (wgsl != Some(rust)).then(|| format!("{name}: {rust} in Rust, {wgsl:?} in WGSL"))
    };
    expected.iter().filter_map(differs).collect()
}

#[track_caller]
fn same(module: &Module, expected: &[(&str, u64)]) {
    let differences = differences(module, expected);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn parts_of_the_vectors_of_normalized_cells() {
    same(
        &recurrent(Cells::LayerNormLstm, Rung::Normalize, WeightFormat::F32, Held::Not),
        &[
            ("NORM_INPUT_WEIGHT", part::NORM_INPUT_WEIGHT as u64),
            ("NORM_INPUT_BIAS", part::NORM_INPUT_BIAS as u64),
            ("NORM_STATE_WEIGHT", part::NORM_STATE_WEIGHT as u64),
            ("NORM_STATE_BIAS", part::NORM_STATE_BIAS as u64),
            ("NORM_C_WEIGHT", part::NORM_C_WEIGHT as u64),
            ("NORM_C_BIAS", part::NORM_C_BIAS as u64),
            ("NORM_NONE", cell_norm_number(CellNorm::None).into()),
            ("NORM_STATE", cell_norm_number(CellNorm::State).into()),
            ("NORM_OUTPUT", cell_norm_number(CellNorm::Output).into()),
        ],
    );
}

#[test]
fn parts_of_vectors_and_bits_of_masks() {
    same(
        &lstm(Rung::Step, Held::Not),
        &[
            ("BIAS", part::BIAS as u64),
            ("SCALE_BELOW", part::SCALE_BELOW as u64),
            ("SCALE", part::SCALE as u64),
            ("EXTRA", part::EXTRA as u64),
            ("SCALE_PROJECTION", part::SCALE_PROJECTION as u64),
            ("VALID", bits::VALID.into()),
            ("SEEN_FORWARD", bits::SEEN_FORWARD.into()),
            ("SEEN_REVERSE", bits::SEEN_REVERSE.into()),
            ("NO_MASK", masked_number(None).into()),
            ("ZERO", masked_number(Some(MaskedOutput::Zero)).into()),
            ("PREVIOUS", masked_number(Some(MaskedOutput::Previous)).into()),
        ],
    );
}

#[test]
fn numbers_of_training() {
    let of = |kernel| module(Kernel::Train(kernel));
    let products = [of(TrainKernel::Matmul), of(TrainKernel::MatmulBlock)];
    for product in &products {
        let [accumulate, biased, a_turned, b_turned] = matmul_flags();
        same(
            product,
            &[
                ("ACCUMULATE", accumulate.into()),
                ("BIASED", biased.into()),
                ("A_TURNED", a_turned.into()),
                ("B_TURNED", b_turned.into()),
            ],
        );
    }
    same(&products[0], &[("TILE", LINEAR_TILE.into()), ("DEPTH", LINEAR_DEPTH.into())]);
    let backward = |rung| of(TrainKernel::RecurrentBackward(BackwardKernel { cell: BackwardCell::Lstm, rung }));
    same(&backward(BackwardRung::Tile), &[("SLICE", decide_backward::TILE_SLICE)]);
    same(&backward(BackwardRung::Direct), &[("SIDE", BLOCK_SIDE.into())]);
    same(
        &backward(BackwardRung::Step),
        &[
            ("SLICE", decide_backward::STEP_SLICE),
            ("VALID", bits::VALID.into()),
            ("SEEN_FORWARD", bits::SEEN_FORWARD.into()),
            ("SEEN_REVERSE", bits::SEEN_REVERSE.into()),
            ("NO_MASK", masked_number(None).into()),
            ("PREVIOUS", masked_number(Some(MaskedOutput::Previous)).into()),
        ],
    );
    same(
        &of(TrainKernel::Optimizer),
        &[
            ("FROZEN", SEGMENT_FROZEN.into()),
            ("DECAYS", SEGMENT_DECAYS.into()),
            ("SGD", rule_number(Sgd::default().into()).into()),
            ("ADAM", rule_number(Adam::default().into()).into()),
            ("RMSPROP", rule_number(RmsProp::default().into()).into()),
            ("ADAGRAD", rule_number(Adagrad::default().into()).into()),
        ],
    );
    same(&of(TrainKernel::Norms), &[("HEAD", NORMS_HEAD as u64)]);
}

#[test]
fn functions_and_combinations() {
    let module_of_functions = linear(Tiling::Square);
    let names: Vec<(String, u64)> = Activation::ALL
        .into_iter()
        .map(|activation| {
            // `HardSigmoid { .. }` is HARD_SIGMOID in WGSL.
            let name = format!("{activation:?}");
            let name = name.split(' ').next().unwrap_or_default();
            let words = name.char_indices().flat_map(|(at, letter)| {
                (at > 0 && letter.is_uppercase()).then_some('_').into_iter().chain(letter.to_uppercase())
            });
            (words.collect(), activation_number(activation).into())
        })
        .collect();
    assert!(names.iter().any(|(name, _)| name == "HARD_SIGMOID"), "{names:?}");
    let expected: Vec<(&str, u64)> = names.iter().map(|(name, number)| (name.as_str(), *number)).collect();
    same(&module_of_functions, &expected);
    let combinations = [
        ("COPY", Combine::Copy),
        ("ADD", Combine::Add),
        ("MUL", Combine::Mul),
        ("MAX", Combine::Max),
        ("SUB", Combine::Sub),
    ];
    same(&module(Kernel::Combine), &combinations.map(|(name, how)| (name, combination(how).into())));
    let pools = [
        ("LARGEST", pool_number(Pool::Max)),
        ("AVERAGE", pool_number(Pool::Average)),
        ("SUM", pool_number(Pool::Sum)),
        ("LAST_VALID", LAST_VALID),
    ];
    for kernel in [Kernel::Pool, Kernel::Train(TrainKernel::PoolBackward)] {
        same(&module(kernel), &pools.map(|(name, number)| (name, number.into())));
    }
}

#[test]
fn sizes_of_tiles() {
    same(&linear(Tiling::Square), &[("TILE", LINEAR_TILE.into()), ("DEPTH", LINEAR_DEPTH.into())]);
    let rows = [("ROWS", ROWS_TILE.into()), ("DEPTH", ROWS_DEPTH.into()), ("GROUP", u64::from(ROWS_COLUMNS) / 4)];
    same(&linear(Tiling::Rows), &rows);
    let block = [("SIDE", BLOCK_SIDE.into()), ("GROUP", BLOCK_WORKGROUP.into())];
    same(&module(Kernel::Train(TrainKernel::MatmulBlock)), &block);
    for side in MatrixSide::ALL {
        let sizes = [("SIDE", side.length().into()), ("SLICE", MATRIX_SLICE.into())];
        same(&linear(Tiling::Matrix(side)), &sizes);
        same(&lstm(Rung::TileMatrix(side), Held::Not), &sizes);
    }
    same(&lstm(Rung::Step, Held::Not), &[("SLICE", STEP_SLICE)]);
    same(&lstm(Rung::Tile, Held::Not), &[("SLICE", TILE_SLICE)]);
    let direct = [("OF_UNITS", DIRECT_UNITS.into()), ("OF_ROWS", DIRECT_ROWS.into())];
    same(&lstm(Rung::Direct, Held::Not), &direct);
}

#[test]
fn weights_that_are_held() {
    for (format, words) in [(WeightFormat::F32, 4), (WeightFormat::F16, 2), (WeightFormat::Int8, 1)] {
        let module = recurrent(Cells::Lstm, Rung::Sequence, format, Held::Registers);
        same(&module, &[("WORDS", words), ("HELD", HELD_WORDS / words)]);
    }
    for quads in [8, 16, 32, 64, 128] {
        let blocks = Blocks::for_quads(quads).expect("there are blocks for so many");
        let sizes = [("BLOCKS", blocks.count()), ("BLOCK", Blocks::QUADS)];
        same(&lstm(Rung::Sequence, Held::Unrolled(blocks)), &sizes);
    }
}

#[test]
fn words_of_an_exchange() {
    same(
        &lstm(Rung::Resident, Held::Not),
        &[
            ("HEAD", Exchange::HEAD.into()),
            ("TIMED_OUT", Exchange::TIMED_OUT as u64),
            ("FINISHED", Exchange::FINISHED as u64),
        ],
    );
    let words = [Exchange::TIMED_OUT, Exchange::FINISHED];
    assert!(words.iter().all(|&word| (word as u64) < Exchange::READ / 4 && word < Exchange::HEAD as usize));
}

#[test]
fn words_of_a_choice() {
    let expected = [
        ("STOPPED", CHOICE_STOPPED.into()),
        ("BAD", CHOICE_BAD.into()),
        ("NO_SLOT", bits::NO_SLOT.into()),
        ("ENDS", CHOICE_HEAD as u64 - 1),
    ];
    same(&module(Kernel::Choose), &expected);
    same(&module(Kernel::Slots), &[("NO_SLOT", bits::NO_SLOT.into())]);
}

#[test]
fn fields_of_the_parameters() {
    let module = lstm(Rung::Step, Held::Not);
    let fields = module.types.iter().find_map(|(_, kind)| match (&kind.inner, kind.name.as_deref()) {
        (TypeInner::Struct { members, span }, Some("Params")) => Some((members, *span)),
        _ => None,
    });
    let (members, span) = fields.expect("Params is in every kernel");
    let names: Vec<&str> = members.iter().filter_map(|member| member.name.as_deref()).collect();
    let dispatch = Dispatch::empty(Kernel::Embedding);
    assert_eq!(names, dispatch.params().map(|(name, _)| name));
    assert_eq!(u64::from(span), PARAMS_SIZE);
}

/// Negative control: a number that differs and a name that is missing are both named.
#[test]
fn a_difference_is_named() {
    let found = differences(&linear(Tiling::Square), &[("TILE", 31), ("DEPTH", LINEAR_DEPTH.into()), ("WIDE", 1)]);
    assert_eq!(found, ["TILE: 31 in Rust, Some(32) in WGSL", "WIDE: 1 in Rust, None in WGSL"]);
}

/// Negative controls of [`KernelSpec::mismatch`](super::KernelSpec::mismatch).
#[test]
fn a_constant_that_is_missing_unknown_or_doubled_is_named() {
    let spec = Kernel::Softmax.spec();
    let right = Constants::default().with("FEATURES", 3u32).with("LOG", 0u32).with("WORKGROUP", 64u32);
    assert_eq!(spec.mismatch(&right), None);
    let of = |constants: &Constants| spec.mismatch(constants).expect("a mismatch");
    assert_eq!(of(&Constants::default().with("FEATURES", 3u32).with("LOG", 0u32)), "softmax: no value for WORKGROUP");
    assert_eq!(of(&right.clone().with("FEATURE", 3u32)), "softmax: no constant FEATURE");
    assert_eq!(of(&right.clone().with("FEATURES", 3u32)), "softmax: two values for FEATURES");
    let float = Constants::default().with("FEATURES", 3.0f32).with("LOG", 0u32).with("WORKGROUP", 64u32);
    assert!(of(&float).starts_with("softmax: expected a u32 for FEATURES"), "{}", of(&float));
}
