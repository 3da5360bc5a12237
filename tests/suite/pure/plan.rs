//! Plans without a GPU: they are complete, within every limit, and consistent with their description.

use gatefold::network::{
    Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec, StageRounding, WeightFormat,
};
use gatefold::unstable::plan::{
    Blocks, Dispatch, Held, Kernel, MAX_REPEAT, PlanParts, ROW_WORKGROUP, RecurrentKernel, Rung, SOFTWARE_LOOP_LIMIT,
    Tiling, pack, weight_sizes,
};
use gatefold::{
    Arithmetic, Choice, Error, MatrixSide, MatrixUnits, Network, Plan, PlanLimits, PlanOptions, RunShape, Strategy,
};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use crate::common::{lstm, spec};

fn network(layer: RecurrentSpec) -> Network {
    around(LayerSpec::Lstm(layer))
}

/// A recurrent layer between an embedding and a head.
pub fn around(recurrent: LayerSpec) -> Network {
    let (_, layer) = recurrent.recurrent().unwrap();
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: layer.output_size(),
        out_features: 5,
        bias: true,
        activation: Activation::Linear,
    };
    let embedding = EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: 11,
        embedding_dim: layer.input_size,
        mask_zero: false,
    };
    Network::random(
        spec(vec![LayerSpec::Embedding(embedding), recurrent, LayerSpec::Dense(dense), LayerSpec::Softmax]),
        1,
    )
    .unwrap()
}

/// Every timestep of every lane is run exactly once, in order, with its input projected before;
/// every row that another kernel must compute is computed once; all within bounds.
fn assert_complete(plan: &Plan, network: &Network, limits: &PlanLimits) {
    assert_parts_complete(plan, &PlanParts::of(plan), network, limits);
}

fn assert_parts_complete(plan: &Plan, parts: &PlanParts<'_>, network: &Network, limits: &PlanLimits) {
    for choice in &plan.choices {
        assert_recurrence(plan, parts, network, choice);
    }
    for dispatch in parts.dispatches {
        let [x, y, z] = dispatch.workgroups.map(u64::from);
        assert!([x, y, z].iter().all(|&n| n >= 1 && n <= limits.max_workgroups.into()), "{dispatch:?}");
        let spec = dispatch.kernel.spec();
        assert_eq!(spec.mismatch(&dispatch.constants), None, "{dispatch:?}");
        assert_eq!(dispatch.bindings.len() + 1, spec.bindings.len(), "{dispatch:?}");
        for slice in &dispatch.bindings {
            assert!(slice.offset + slice.bytes <= parts.buffers[slice.buffer].bytes, "{dispatch:?}");
            assert!(slice.offset % 256 == 0 && slice.bytes > 0 && slice.bytes <= limits.max_binding, "{dispatch:?}");
        }
        let of = |name| dispatch.constant(name).unwrap_or(1);
        let group = match dispatch.kernel.arithmetic() {
            Arithmetic::Matrix => of("STRIPS") * of("SUBGROUP"),
            _ => of("UNITS") * of("SPLIT") * of("QUADS"),
        };
        assert!(group <= limits.max_invocations, "{dispatch:?}");
        if let Some(RecurrentKernel { rung: Rung::TileMatrix(side), cell, .. }) = dispatch.kernel.recurrent() {
            assert_eq!(u64::from(of("STRIPS") * side.length()), u64::from(of("UNITS")) * cell.gates(), "{dispatch:?}");
            assert!([1, 2, 4].contains(&of("BLOCKS")), "{dispatch:?}");
        }
        assert!(dispatch.repeat as usize <= MAX_REPEAT);
    }
    for (index, stage) in network.stages().iter().enumerate().filter(|(_, stage)| stage.recurrent().is_none()) {
        let rows = if stage.sequence_out { plan.steps * plan.batch } else { plan.batch };
        let mut written = vec![0u32; rows];
        for dispatch in parts.dispatches.iter().filter(|dispatch| dispatch.stage == index) {
            for row in &mut written[dispatch.output_row as usize..][..dispatch.rows as usize] {
                *row += 1;
            }
            let of = |name| dispatch.constant(name).unwrap();
            let [x, y, z] = dispatch.workgroups.map(u64::from);
            let rows = u64::from(dispatch.rows);
            let covered = match dispatch.kernel {
                Kernel::Embedding => x * y * u64::from(ROW_WORKGROUP) >= rows * u64::from(of("EMBEDDING_DIM")),
                Kernel::Linear(product) => {
                    let [tile_rows, tile_columns] = product.tiling.size().map(|n| n as u64);
                    y * z * tile_rows >= rows && x * tile_columns >= u64::from(of("OUT_FEATURES"))
                }
                _ => x * y >= rows,
            };
            assert!(covered, "{dispatch:?}");
        }
        assert!(written.iter().all(|&n| n == 1), "{}: {written:?}", stage.label);
    }
    let mut submission = 0;
    for dispatch in parts.dispatches {
        assert!(dispatch.submission == submission || dispatch.submission == submission + 1);
        submission = dispatch.submission;
    }
    assert!(plan.longest_submission() <= 4096 + MAX_REPEAT as u64);
    for (index, buffer) in parts.buffers.iter().enumerate() {
        // Of weights, parts may be bound.
        let most = if index < parts.weights { limits.max_buffer } else { limits.max_binding };
        assert!(buffer.bytes <= most && buffer.bytes > 0, "{buffer:?}");
    }
}

/// The dispatches of one choice; several choices may share a stage, one for each direction.
fn assert_recurrence(plan: &Plan, parts: &PlanParts<'_>, network: &Network, choice: &Choice) {
    let stage = &network.stages()[choice.stage];
    let [steps, batch, stages] = [plan.steps, plan.batch, choice.stages].map(|n| u32::try_from(n).unwrap());
    let behind = stages - 1;
    let of_stage = |dispatch: &&Dispatch| dispatch.stage == choice.stage;
    let apart = plan.choices.iter().filter(|other| other.stage == choice.stage).count();
    let all: Vec<&Dispatch> = parts.dispatches.iter().filter(of_stage).collect();
    let kernels: std::collections::BTreeSet<_> =
        all.iter().filter_map(|dispatch| dispatch.kernel.recurrent()).map(|kernel| kernel.cell).collect();
    let lanes = all.iter().find_map(|dispatch| dispatch.constant("LANES")).unwrap();
    assert_eq!(
        lanes as usize * apart,
        if behind > 0 { choice.stages } else { stage.recurrent().unwrap().directions.len() }
    );
    let hoisted = if behind > 0 { 1 } else { lanes };
    for cell in kernels {
        // Step by step and direction by direction.
        let (mut next, mut projected, mut runs) = (0, 0, 0);
        for dispatch in &all {
            let Some(kernel) = dispatch.kernel.recurrent() else {
                projected += dispatch.rows;
                continue;
            };
            if kernel.cell != cell {
                continue;
            }
            let run = dispatch.recurrence.unwrap();
            if next == steps + behind {
                (next, projected, runs) = (0, run.count * batch * hoisted, runs + 1);
            }
            assert_eq!(run.first, next, "{}: {dispatch:?}", stage.label);
            let last = run.done + run.count == steps;
            assert_eq!(run.end, run.done + run.count + if last { behind } else { 0 }, "{}: {dispatch:?}", stage.label);
            assert!(projected >= run.end.min(steps) * batch * hoisted, "{}: {dispatch:?}", stage.label);
            next = run.end.min(run.first + dispatch.repeat * run.stride);
            assert!(
                u64::from(dispatch.repeat - 1) * u64::from(run.stride) < u64::from(run.end - run.first),
                "{dispatch:?}"
            );
            // The grid covers the units, the rows and the lanes.
            let [x, y, z] = dispatch.workgroups.map(u64::from);
            let second = ["SPLIT", "QUADS", "BLOCKS"].iter().find_map(|name| dispatch.constant(name)).unwrap_or(1);
            let (width, units) = (dispatch.constant("WIDTH").unwrap(), dispatch.constant("UNITS").unwrap());
            let units = match kernel.rung {
                Rung::Sequence | Rung::SequenceRows => width,
                // Of each of its invocations.
                Rung::Direct => 2 * units,
                _ => units,
            };
            assert!(x * u64::from(units) >= width.into(), "{dispatch:?}");
            assert!(y * z * u64::from(kernel.rung.rows(second)) >= u64::from(batch) * u64::from(lanes), "{dispatch:?}");
        }
        assert_eq!((next, runs + 1), (steps + behind, apart), "{}: a step is missing", stage.label);
    }
}

fn layers() -> impl Generator<Value = LayerSpec> {
    (1usize..=40, 1usize..=70, 1usize..=3, any::<bool>(), any::<bool>(), 0..9).prop_map(
        |(i, h, num_layers, bidirectional, last, kind)| {
            let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
            let layer = RecurrentSpec { num_layers, bidirectional, output, ..lstm(i, h) };
            match kind {
                0 => LayerSpec::Gru(layer),
                1 => LayerSpec::Gru(RecurrentSpec { reset_after: false, ..layer }),
                2 => LayerSpec::Rnn(layer),
                3 => LayerSpec::Lstm(RecurrentSpec { proj_size: h / 2, peephole: true, ..layer }),
                4 => LayerSpec::MinGru(layer),
                5 => LayerSpec::Sru(RecurrentSpec { peephole: true, ..layer }),
                6 => LayerSpec::IndRnn(layer),
                _ => LayerSpec::Lstm(layer),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_complete_and_within_limits(
        layer in layers(), masked in any::<bool>(), steps in 1usize..3000, batch in 1usize..9, budget in 0u64..200_000,
        software in any::<bool>(), max_workgroups in prop::sample::select(vec![7u32, 100, 65_535]),
        resident_workgroups in prop::sample::select(vec![0u32, 16, 132]), unrolls in any::<bool>(),
        strategy in prop::option::of(prop::sample::select(Strategy::ALL.to_vec())),
        matrix in prop::option::of((prop::sample::select(MatrixSide::ALL.to_vec()), prop::sample::select(vec![8, 64]))),
    ) {
        let network = around(layer);
        let limits =
            PlanLimits { software, max_workgroups, resident_workgroups, subgroup: 8, unrolls, ..PlanLimits::default() };
        let mut options = PlanOptions::default().projection_budget(budget);
        options.strategy = strategy;
        let units = matrix.map(|(side, subgroup)| MatrixUnits { side, subgroup });
        let limits = PlanLimits { matrix_units: units, ..limits };
        // Batches that fill the units, and some that do not.
        let batch = if units.is_some() { 5 * batch } else { batch };
        options.arithmetic = if units.is_some() { Arithmetic::Matrix } else { Arithmetic::F32 };
        match Plan::new(&network, RunShape { masked, ..RunShape::new(steps, batch) }, &limits, &options) {
            Ok(plan) => {
                assert_complete(&plan, &network, &limits);
                for dispatch in PlanParts::of(&plan).dispatches {
                    prop_assert!(!software || dispatch.iterations <= SOFTWARE_LOOP_LIMIT);
                    let tiled = plan.choices.iter().any(|choice| {
                        choice.stage == dispatch.stage && choice.strategy == Strategy::Tile
                    });
                    if dispatch.recurrence.is_some() {
                        prop_assert_eq!(dispatch.kernel.arithmetic() == Arithmetic::Matrix, tiled && units.is_some());
                    }
                }
                let title = format!("plan for T = {steps}, B = {batch}");
                prop_assert!(plan.to_string().starts_with(&title));
            }
            // A requested strategy may be one that cannot run here.
            Err(Error::Unsupported { .. }) => prop_assert!(strategy.is_some()),
            // Tiny grids cannot hold every problem; saying so is right.
            Err(error) => prop_assert!(max_workgroups < 65_535 && error.to_string().contains("workgroups"), "{}", error),
        }
    }
}

/// Negative control of the checks above: a plan with a step taken out is not complete.
#[test]
#[should_panic(expected = "lstm.l0")]
fn a_missing_step_is_seen() {
    let network = network(lstm(3, 4));
    let limits = PlanLimits::default();
    let plan = Plan::new(&network, RunShape::new(10, 2), &limits, &PlanOptions::default()).unwrap();
    let mut parts = PlanParts::of(&plan);
    let mut dispatches = parts.dispatches.to_vec();
    let step = dispatches.iter_mut().find(|dispatch| dispatch.recurrence.is_some()).unwrap();
    step.recurrence.as_mut().unwrap().end -= 1;
    parts.dispatches = &dispatches;
    assert_parts_complete(&plan, &parts, &network, &limits);
}

#[test]
fn weights_are_packed_at_the_sizes_the_plan_counts() {
    for layer in [
        LayerSpec::Lstm(RecurrentSpec { num_layers: 2, bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Lstm(RecurrentSpec { proj_size: 2, peephole: true, bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Gru(RecurrentSpec { bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Gru(RecurrentSpec { reset_after: false, bias: false, ..lstm(3, 5) }),
        LayerSpec::Rnn(lstm(3, 5)),
        LayerSpec::Qrnn(RecurrentSpec { bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::IndRnn(lstm(3, 5)),
    ] {
        for format in WeightFormat::ALL {
            packed_as_counted(&around(layer.clone()).with_weights(format).unwrap());
        }
    }
}

fn packed_as_counted(network: &Network) {
    let sizes = weight_sizes(network, &PlanLimits::default());
    let packed = pack(network, &PlanLimits::default());
    let plan = Plan::new(network, RunShape::new(1, 1), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    assert_eq!(packed.len(), sizes.len());
    assert_eq!(PlanParts::of(&plan).weights, sizes.len());
    for ((packed, size), buffer) in packed.iter().zip(&sizes).zip(PlanParts::of(&plan).buffers) {
        assert_eq!((&packed.label, packed.words.len()), (&size.label, size.words));
        assert_eq!((&buffer.label, buffer.bytes), (&size.label, 4 * size.words as u64));
    }
}

/// Directions, then W and U, get buffers of their own where a binding would be too large.
#[test]
fn weights_are_split_where_they_must_be() {
    let network = network(RecurrentSpec { bidirectional: true, ..lstm(64, 64) });
    let buffers = |max_binding| {
        let limits = PlanLimits { max_binding, ..PlanLimits::default() };
        let plan = Plan::new(&network, RunShape::new(3, 2), &limits, &PlanOptions::default()).unwrap();
        assert_complete(&plan, &network, &limits);
        PlanParts::of(&plan).buffers.iter().filter(|buffer| buffer.label.contains("W, U")).count()
    };
    // Each of W and U takes 64 KiB, for each direction.
    assert_eq!(buffers(256 << 10), 1);
    assert_eq!(buffers(255 << 10), 2);
    assert_eq!(buffers(64 << 10), 2);
    let limits = PlanLimits { max_binding: 63 << 10, ..PlanLimits::default() };
    let error = Plan::new(&network, RunShape::new(3, 2), &limits, &PlanOptions::default()).unwrap_err();
    assert!(error.to_string().contains("lstm.l0 W, U"), "{error}");
}

#[test]
fn the_iterations_counted_are_the_loops_written() {
    let network = network(lstm(100, 70));
    let limits = PlanLimits { software: true, ..PlanLimits::default() };
    let iterations = |strategy, found: fn(&Kernel) -> bool| {
        let options = PlanOptions::default().strategy(strategy).four_rows(false).units(64);
        let plan = Plan::new(&network, RunShape::new(3, 2), &limits, &options).unwrap();
        PlanParts::of(&plan).dispatches.iter().find(|dispatch| found(&dispatch.kernel)).unwrap().iterations
    };
    let step = |strategy| iterations(strategy, |kernel| kernel.recurrent().is_some());
    // K = 100 in two slices with 20 loading iterations, 100 sums, 64 results.
    let linear = iterations(Strategy::Step, |kernel| matches!(kernel, Kernel::Linear(_)));
    assert_eq!(linear, 2 * 21 + 100 + 64);
    // In slices of 16, each one outer, 10 loading and 16 summing iterations, then 16 results.
    assert_eq!(Tiling::Square.iterations(100, 1), 7 * 27 + 16);
    // 100 in slices of 32, for each 32 rows and 32 columns brought by 32 invocations, 4 products; then 4 blocks of 8 rows.
    assert_eq!(Tiling::Matrix(MatrixSide::Eight).iterations(100, 8), 4 * (1 + 32 + 32 + 4) + 4 * (1 + 8));
    // 18 quads in one slice: a loading iteration or two (one more is counted to be safe) with 4 numbers, 18 sums (four at a time: no more than
    // that), 1 spare.
    assert_eq!(step(Strategy::Step), 1 + 5 * 2 + 18 + 1);
    // 70 in slices of 64: 4 rounds of loading 4 rows for 16 invocations, 16 quads; then 4 rows.
    assert_eq!(step(Strategy::Tile), 2 * (1 + 5 + 16) + 4);
    // 18 quads, then 2 units of 8 rows.
    let plan = Plan::new(&network, RunShape::new(3, 2), &limits, &PlanOptions::default().strategy(Strategy::Tile));
    let direct = PlanParts::of(&plan.unwrap()).dispatches.iter().find_map(|dispatch| {
        dispatch.kernel.recurrent().is_some_and(|kernel| kernel.rung == Rung::Direct).then_some(dispatch.iterations)
    });
    assert_eq!(direct, Some(18 + 16));
    // Bringing h in, 3 steps of two blocks of 18 quads, taking h out.
    assert_eq!(step(Strategy::Sequence), 2 + 3 * (1 + 2 * (1 + 18)) + 2);
    // The same unrolled: 18 quads of weights are brought, and three quads of h at each step; nothing else is a loop.
    let limits = PlanLimits { subgroup: 8, ..limits };
    let options = PlanOptions::default().strategy(Strategy::Sequence).held(true);
    let unrolled = Plan::new(&network, RunShape::new(3, 2), &limits, &options).unwrap();
    let unrolled = PlanParts::of(&unrolled).dispatches.iter().find(|dispatch| dispatch.recurrence.is_some()).unwrap();
    assert_eq!(unrolled.kernel.recurrent().unwrap().held, Held::Unrolled(Blocks::Four));
    assert_eq!(unrolled.iterations, 18 + 1 + 3 * (1 + (1 + 3)) + 1);
    // Three passes over 5 columns by 64 invocations, two reductions.
    assert_eq!(iterations(Strategy::Step, |kernel| *kernel == Kernel::Softmax), 3 + 2 * 64);
}

/// On a software adapter no dispatch may reach the loop limit at which it ends without an error; hardware has no such limit.
#[test]
fn the_loop_limit_binds_software_only() {
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: 70_000,
        out_features: 1,
        bias: false,
        activation: Activation::Linear,
    };
    let network = Network::random(spec(vec![LayerSpec::Dense(dense)]), 1).unwrap();
    let software = PlanLimits { software: true, ..PlanLimits::default() };
    let error = Plan::new(&network, RunShape::new(1, 1), &software, &PlanOptions::default()).unwrap_err();
    let Error::TooLarge { what, needed, limit, .. } = error else { panic!("{error}") };
    assert_eq!(
        (what.as_str(), needed, limit),
        ("dense: loop iterations of one invocation", 93_038, SOFTWARE_LOOP_LIMIT)
    );
    assert!(Plan::new(&network, RunShape::new(1, 1), &PlanLimits::default(), &PlanOptions::default()).is_ok());
}

#[test]
fn the_projection_is_cut_where_it_would_not_fit() {
    let network = network(lstm(8, 64));
    let of = |steps, limits: &PlanLimits, options: &PlanOptions| {
        Plan::new(&network, RunShape::new(steps, 4), limits, options).unwrap()
    };
    let whole = of(100, &PlanLimits::default(), &PlanOptions::default());
    assert!(!whole.reasons.iter().any(|reason| reason.contains("at a time")));
    // One step takes 4 rows of 256 numbers of 4 bytes.
    let cut = of(100, &PlanLimits::default(), &PlanOptions::default().projection_budget(30 * 4096));
    assert!(cut.reasons.iter().any(|reason| reason.contains("30 of 100 timesteps at a time")), "{cut}");
    let projections = PlanParts::of(&cut)
        .dispatches
        .iter()
        .filter(|d| matches!(d.kernel, Kernel::Linear(_)) && cut.stages[d.stage] == "lstm.l0");
    assert_eq!(projections.map(|dispatch| dispatch.rows).collect::<Vec<_>>(), [120, 120, 120, 40]);
    let small = PlanLimits { max_binding: 114_688, ..PlanLimits::default() };
    assert!(of(100, &small, &PlanOptions::default()).reasons.iter().any(|r| r.contains("26 of 100")));
}

#[test]
fn work_is_cut_into_submissions() {
    let network = network(lstm(64, 1024));
    let plan = Plan::new(&network, RunShape::new(500, 16), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    assert!(plan.submissions() > 4);
    let mut work = vec![0u64; plan.submissions()];
    for dispatch in PlanParts::of(&plan).dispatches {
        work[dispatch.submission] += dispatch.work * u64::from(dispatch.repeat);
    }
    assert!(work.iter().all(|&work| work <= 4 << 30), "{work:?}");
}

/// The choice by shape, adapter and limits, with its reason.
#[test]
fn the_plan_chooses_and_says_why() {
    let chosen = |layer: LayerSpec, batch: usize, limits: PlanLimits| {
        let plan = Plan::new(&around(layer), RunShape::new(20, batch), &limits, &PlanOptions::default()).unwrap();
        let choice = &plan.choices[0];
        (choice.strategy, choice.stages, choice.reason.clone())
    };
    let one = |hidden, batch, limits| chosen(LayerSpec::Lstm(lstm(8, hidden)), batch, limits);
    let (hardware, software) = (PlanLimits::default(), PlanLimits { software: true, ..PlanLimits::default() });
    let (strategy, _, reason) = one(64, 1, hardware);
    assert_eq!(strategy, Strategy::Sequence);
    assert!(
        reason.starts_with("no launch per step, which takes as long as reading 320.0 KiB; 16384 multiply-adds"),
        "{reason}"
    );
    assert_eq!(one(1024, 1, hardware).0, Strategy::Step);
    assert_eq!(one(1024, 64, hardware).0, Strategy::Tile);
    assert_eq!(one(64, 1, software).0, Strategy::Sequence);
    // Where a software adapter can, U is brought to private memory.
    let unrolls = PlanLimits { subgroup: 8, unrolls: true, ..software };
    let lavapipe = PlanLimits { max_invocations: 1024, max_workgroup_memory: 32 << 10, ..unrolls };
    for (hidden, limits, unrolled) in [
        (64, unrolls, true),
        (256, unrolls, true),
        (257, unrolls, false),
        (512, lavapipe, true),
        (513, lavapipe, false),
        (64, PlanLimits { subgroup: 4, ..lavapipe }, false),
        (64, PlanLimits { unrolls: false, ..lavapipe }, false),
        (64, PlanLimits { software: false, ..lavapipe }, false),
    ] {
        let (_, _, reason) = one(hidden, 1, limits);
        assert_eq!(reason.contains("U is read once for many"), unrolled, "H {hidden}: {reason}");
        assert_eq!(reason.contains("weights in private memory"), unrolled, "H {hidden}: {reason}");
    }
    let many =
        PlanLimits { resident_workgroups: 132, max_invocations: 1024, max_workgroup_memory: 48 << 10, ..hardware };
    let (strategy, _, reason) = one(1024, 1, many);
    assert_eq!(strategy, Strategy::Resident);
    assert!(reason.contains("132 workgroups run at once") && reason.contains("weights in registers"), "{reason}");
    let stacked = LayerSpec::Lstm(RecurrentSpec { num_layers: 3, ..lstm(8, 512) });
    let (strategy, stages, reason) = chosen(stacked, 1, hardware);
    assert_eq!((strategy, stages), (Strategy::Wavefront, 3));
    assert!(reason.contains("T+2 dispatches"), "{reason}");
    // A projection takes two kernels a step, which only the step has.
    let projected = LayerSpec::Lstm(RecurrentSpec { proj_size: 5, ..lstm(8, 64) });
    assert_eq!(chosen(projected, 1, many).0, Strategy::Step);
}

/// The number of dispatches that each strategy documents, without projections.
#[test]
fn dispatches_are_as_few_as_promised() {
    let count = |layer: RecurrentSpec, strategy| {
        let limits = PlanLimits { resident_workgroups: 64, ..PlanLimits::default() };
        let options = PlanOptions::default().strategy(strategy);
        let plan = Plan::new(&network(layer), RunShape::new(100, 2), &limits, &options).unwrap();
        let steps = PlanParts::of(&plan).dispatches.iter().filter(|dispatch| dispatch.recurrence.is_some());
        steps.map(|dispatch| dispatch.repeat).sum::<u32>()
    };
    use Strategy::{Resident, Sequence, Step, Tile, Wavefront};
    assert_eq!(count(lstm(8, 64), Step), 100);
    assert_eq!(count(lstm(8, 64), Tile), 100);
    assert_eq!(count(lstm(8, 64), Sequence), 1);
    assert_eq!(count(lstm(8, 64), Resident), 1);
    assert_eq!(count(RecurrentSpec { num_layers: 4, ..lstm(8, 64) }, Wavefront), 103);
    assert_eq!(count(RecurrentSpec { bidirectional: true, ..lstm(8, 64) }, Wavefront), 100, "both directions at once");
}

#[test]
fn a_strategy_that_cannot_run_says_why() {
    let refused = |layer: LayerSpec, limits: PlanLimits, options: PlanOptions| {
        let error = Plan::new(&around(layer), RunShape::new(9, 2), &limits, &options).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        error.to_string()
    };
    let forced = |strategy| PlanOptions::default().strategy(strategy);
    let limits = PlanLimits::default();
    let projected = LayerSpec::Lstm(RecurrentSpec { proj_size: 5, ..lstm(8, 64) });
    let error = refused(projected, limits, forced(Strategy::Sequence));
    assert!(
        error.contains("lstm.l0") && error.contains("strategy sequence") && error.contains("two dispatches"),
        "{error}"
    );
    let error = refused(LayerSpec::Lstm(lstm(8, 64)), limits, forced(Strategy::Wavefront));
    assert!(error.contains("stacked levels"), "{error}");
    let error = refused(LayerSpec::Lstm(lstm(8, 2000)), limits, forced(Strategy::Sequence));
    assert!(error.contains("workgroup memory"), "{error}");
    let few = PlanLimits { resident_workgroups: 2, ..limits };
    let error = refused(LayerSpec::Lstm(lstm(8, 2000)), few, forced(Strategy::Resident));
    assert!(error.contains("2 workgroups"), "{error}");
    for (arithmetic, word) in [(Arithmetic::F16, "SHADER_F16"), (Arithmetic::Matrix, "no matrix units")] {
        let error = refused(LayerSpec::Lstm(lstm(8, 64)), limits, PlanOptions::default().arithmetic(arithmetic));
        assert!(error.contains(word), "{error}");
    }
}

/// What runs on matrix units: tiles of steps, and products of rows enough, where they are asked for.
#[test]
fn matrix_units_do_what_they_are_asked_for() {
    let limits = PlanLimits {
        matrix_units: Some(MatrixUnits { side: MatrixSide::Sixteen, subgroup: 32 }),
        ..PlanLimits::default()
    };
    let matrix = PlanOptions::default().arithmetic(Arithmetic::Matrix);
    let network = network(RecurrentSpec { output: RecurrentOutput::Last, ..lstm(40, 300) });
    let planned = |steps, batch, options| Plan::new(&network, RunShape::new(steps, batch), &limits, &options).unwrap();
    let names = |plan: &Plan| {
        PlanParts::of(plan).dispatches.iter().map(|dispatch| dispatch.kernel.spec().name).collect::<Vec<_>>().join(", ")
    };
    let large = planned(3, 48, matrix);
    assert_eq!(names(&large), "embedding, linear matrix 16, lstm tile matrix 16, linear matrix 16, softmax");
    let tile = PlanParts::of(&large).dispatches.iter().find(|dispatch| dispatch.recurrence.is_some()).unwrap();
    let constants = ["UNITS", "STRIPS", "BLOCKS", "SUBGROUP"].map(|name| tile.constant(name));
    // 16 units of 4 gates are 4 strips; 48 rows are 3 blocks.
    assert_eq!((constants, tile.workgroups), ([16, 4, 4, 32].map(Some), [19, 1, 1]));
    assert!(large.choices[0].reason.contains("on matrix units") && large.reasons[0].contains("16 x 16"), "{large}");
    // Two rows fill no unit; all timesteps of them, projected at once, do.
    let small = planned(20, 2, matrix.strategy(Strategy::Step));
    assert_eq!(names(&small), "embedding, linear matrix 16, lstm step, linear, softmax");
    assert!(small.choices[0].reason.contains("not on matrix units"), "{small}");
    let rounded =
        |plan: &Plan| plan.roundings().iter().map(|one| (one.input.numbers, one.state.numbers)).collect::<Vec<_>>();
    assert_eq!(rounded(&large), [(false, false), (true, true), (true, false), (false, false)]);
    assert_eq!(rounded(&small), [(false, false), (true, false), (false, false), (false, false)]);
    assert!(
        large.roundings()[1].state.weights
            && !planned(3, 48, PlanOptions::default()).roundings().contains(&large.roundings()[1])
    );
    // Unasked, nothing does.
    let unasked = planned(3, 48, PlanOptions::default());
    assert!(!names(&unasked).contains("matrix") && unasked.roundings() == [StageRounding::default(); 4], "{unasked}");
    // No more blocks than there are sums for.
    let error = Plan::new(&network, RunShape::new(3, 48), &limits, &matrix.strategy(Strategy::Tile).split(8));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "option split: expected at most 4 blocks of rows on matrix units, got 8");
}

#[test]
fn nothing_and_too_much_are_refused() {
    let network = network(lstm(8, 64));
    let plan = |steps, batch| {
        Plan::new(&network, RunShape::new(steps, batch), &PlanLimits::default(), &PlanOptions::default())
    };
    assert!(matches!(plan(0, 1), Err(Error::Shape { .. })));
    assert!(matches!(plan(1, 0), Err(Error::Shape { .. })));
    let error = plan(1 << 20, 1 << 20).unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { .. }) && error.to_string().contains("largest storage binding"),
        "{error}"
    );
    assert!(matches!(plan(usize::MAX, usize::MAX), Err(Error::TooLarge { .. })));
}

/// Invocations share the timesteps of a scan only where too few units would leave a GPU idle, and never where a gate sees c.
#[test]
fn scans_share_timesteps_on_idle_gpus() {
    let of = |layer: LayerSpec, steps, batch, limits: PlanLimits| {
        let shape = RunShape::new(steps, batch);
        let plan = Plan::new(&around(layer), shape, &limits, &PlanOptions::default()).unwrap();
        assert!(plan.choices.iter().all(|choice| choice.strategy == Strategy::Scan));
        let dispatches = PlanParts::of(&plan).dispatches;
        let mut kernels = dispatches.iter().filter_map(|dispatch| dispatch.kernel.recurrent());
        (kernels.any(|kernel| kernel.rung == Rung::ScanShared), plan.choices[0].reason.clone())
    };
    let (hardware, software) = (PlanLimits::default(), PlanLimits { software: true, ..PlanLimits::default() });
    let (shared, reason) = of(LayerSpec::MinGru(lstm(8, 512)), 1000, 1, hardware);
    assert!(shared, "{reason}");
    assert!(reason.starts_with("no unit needs another's h") && reason.contains("16 invocations for each"), "{reason}");
    for (layer, steps, batch, limits) in [
        (LayerSpec::MinGru(lstm(8, 512)), 1000, 64, hardware),
        (LayerSpec::MinGru(lstm(8, 512)), 3, 1, hardware),
        (LayerSpec::MinGru(lstm(8, 512)), 1000, 1, software),
        (LayerSpec::Sru(RecurrentSpec { peephole: true, ..lstm(8, 512) }), 1000, 1, hardware),
        (LayerSpec::IndRnn(lstm(8, 512)), 1000, 1, hardware),
    ] {
        let (shared, reason) = of(layer, steps, batch, limits);
        assert!(!shared && reason.contains("1 invocation for each"), "{reason}");
    }
}
