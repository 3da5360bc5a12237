//! Plans without a GPU: complete, within every limit, and true to what they say.

use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::plan::{
    Kernel, LINEAR_TILE, MAX_REPEAT, Plan, PlanLimits, ROW_WORKGROUP, RunShape, SOFTWARE_LOOP_LIMIT, pack, plan,
    weight_sizes,
};
use gatefold::{Error, Network, PlanOptions};
use proptest::prelude::*;

use crate::common::{lstm, spec};

fn network(layer: RecurrentSpec) -> Network {
    around(LayerSpec::Lstm(layer))
}

/// A recurrent layer between an embedding and a head.
fn around(recurrent: LayerSpec) -> Network {
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

/// Every row that each kernel must compute is computed exactly once, in order, within bounds.
fn assert_complete(plan: &Plan, network: &Network, limits: &PlanLimits) {
    let (steps, batch) = (plan.steps, plan.batch);
    for (index, stage) in network.stages().iter().enumerate() {
        let rows = steps * batch;
        let mut written = vec![0u32; rows];
        for dispatch in plan.dispatches.iter().filter(|dispatch| dispatch.stage == index) {
            for repetition in 0..dispatch.repeat {
                let at = |(start, advance): (u32, i32)| i64::from(start) + i64::from(advance) * i64::from(repetition);
                assert!(at(dispatch.input_row) >= 0 && at(dispatch.output_row) >= 0, "{dispatch:?}");
                // Of several kernels in turn the last writes the output.
                let is_part = dispatch.interleaved || dispatch.kernel == Kernel::Linear && stage.recurrent().is_some();
                if !is_part {
                    let first = usize::try_from(at(dispatch.output_row)).unwrap();
                    for row in &mut written[first..first + dispatch.rows as usize] {
                        *row += 1;
                    }
                }
                // Whatever is read or written ends within its buffer.
                let (read, width) = match dispatch.kernel {
                    Kernel::Embedding => (dispatch.bindings[0], 1),
                    Kernel::ProjectStep => continue,
                    kernel if kernel.is_step() => {
                        let gates = stage.recurrent().unwrap().cell.gates();
                        (dispatch.bindings[0], u32::try_from(gates).unwrap() * dispatch.constants[0])
                    }
                    _ => (dispatch.bindings[0], dispatch.constants[0]),
                };
                let end = (at(dispatch.input_row).unsigned_abs() + u64::from(dispatch.rows)) * u64::from(width) * 4;
                assert!(end <= plan.buffers[read].bytes, "{dispatch:?} reads {end} of {:?}", plan.buffers[read]);
            }
            // The grid covers the rows.
            let [x, y, z] = dispatch.workgroups.map(u64::from);
            assert!([x, y, z].iter().all(|&n| n >= 1 && n <= limits.max_workgroups.into()), "{dispatch:?}");
            let rows = u64::from(dispatch.rows);
            let covered = match dispatch.kernel {
                Kernel::Embedding => x * y * u64::from(ROW_WORKGROUP) >= rows * u64::from(dispatch.constants[1]),
                Kernel::Linear => {
                    y * z * u64::from(LINEAR_TILE) >= rows
                        && x * u64::from(LINEAR_TILE) >= u64::from(dispatch.constants[1])
                }
                kernel if kernel.is_step() => {
                    y * z >= rows && x * u64::from(dispatch.constants[2]) >= u64::from(dispatch.constants[0])
                }
                _ => x * y >= rows,
            };
            assert!(covered, "{dispatch:?}");
            assert!(dispatch.repeat as usize <= MAX_REPEAT);
            if dispatch.kernel.is_step() {
                assert!(dispatch.constants[2] * dispatch.constants[3] <= limits.max_invocations);
            }
        }
        let recurrent = stage.recurrent();
        let each = recurrent.map_or(1, |recurrent| u32::try_from(recurrent.directions.len()).unwrap());
        let (expected_rows, each) = match (recurrent.is_some(), stage.sequence_out) {
            (_, true) => (rows, each),
            // Every step writes the one row; the last stays.
            (true, false) => (batch, each * u32::try_from(steps).unwrap()),
            (false, false) => (batch, each),
        };
        assert!(written[..expected_rows].iter().all(|&n| n == each), "{}: {written:?}", stage.label);
        assert!(written[expected_rows..].iter().all(|&n| n == 0), "{}", stage.label);
    }
    let mut submission = 0;
    for dispatch in &plan.dispatches {
        assert!(dispatch.submission == submission || dispatch.submission == submission + 1);
        submission = dispatch.submission;
    }
    assert!(plan.longest_submission() <= 4096 + MAX_REPEAT as u64);
    for buffer in &plan.buffers {
        assert!(buffer.bytes <= limits.max_binding && buffer.bytes > 0, "{buffer:?}");
    }
}

fn layers() -> impl Strategy<Value = LayerSpec> {
    (1usize..=40, 1usize..=70, 1usize..=3, any::<bool>(), any::<bool>(), 0..6).prop_map(
        |(i, h, num_layers, bidirectional, last, kind)| {
            let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
            let layer = RecurrentSpec { num_layers, bidirectional, output, ..lstm(i, h) };
            match kind {
                0 => LayerSpec::Gru(layer),
                1 => LayerSpec::Gru(RecurrentSpec { reset_after: false, ..layer }),
                2 => LayerSpec::Rnn(layer),
                3 => LayerSpec::Lstm(RecurrentSpec { proj_size: h / 2, peephole: true, ..layer }),
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
    ) {
        let network = around(layer);
        let limits = PlanLimits { software, max_workgroups, ..PlanLimits::default() };
        let options = PlanOptions::default().projection_budget(budget);
        match plan(&network, RunShape { steps, batch, masked }, &limits, &options) {
            Ok(plan) => {
                assert_complete(&plan, &network, &limits);
                for dispatch in &plan.dispatches {
                    prop_assert!(!software || dispatch.iterations <= SOFTWARE_LOOP_LIMIT);
                }
                let title = format!("plan for T = {steps}, B = {batch}");
                prop_assert!(plan.to_string().starts_with(&title));
            }
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
    let mut plan = plan(&network, RunShape::new(10, 2), &limits, &PlanOptions::default()).unwrap();
    let step = plan.dispatches.iter_mut().find(|dispatch| dispatch.kernel == Kernel::LstmStep).unwrap();
    step.repeat -= 1;
    assert_complete(&plan, &network, &limits);
}

#[test]
fn weights_are_packed_at_the_sizes_the_plan_counts() {
    for layer in [
        LayerSpec::Lstm(RecurrentSpec { num_layers: 2, bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Lstm(RecurrentSpec { proj_size: 2, peephole: true, bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Gru(RecurrentSpec { bidirectional: true, ..lstm(3, 5) }),
        LayerSpec::Gru(RecurrentSpec { reset_after: false, bias: false, ..lstm(3, 5) }),
        LayerSpec::Rnn(lstm(3, 5)),
    ] {
        packed_as_counted(&around(layer));
    }
}

fn packed_as_counted(network: &Network) {
    let sizes: Vec<_> = network.stages().iter().flat_map(weight_sizes).collect();
    let packed = pack(network);
    let plan = plan(network, RunShape::new(1, 1), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    assert_eq!(packed.len(), sizes.len());
    assert_eq!(plan.weights, sizes.len());
    for ((packed, (label, size)), buffer) in packed.iter().zip(&sizes).zip(&plan.buffers) {
        assert_eq!((&packed.label, packed.data.len()), (label, *size));
        assert_eq!((&buffer.label, buffer.bytes), (label, 4 * *size as u64));
    }
}

#[test]
fn the_iterations_counted_are_the_loops_written() {
    let network = network(lstm(100, 70));
    let limits = PlanLimits { software: true, ..PlanLimits::default() };
    let plan = plan(&network, RunShape::new(3, 2), &limits, &PlanOptions::default()).unwrap();
    let of = |kernel| plan.dispatches.iter().find(|dispatch| dispatch.kernel == kernel).unwrap().iterations;
    // K = 100 in slices of 16, each one outer, 10 loading and 16 summing iterations,
    // then 16 results.
    assert_eq!(of(Kernel::Linear), 7 * 27 + 16);
    assert_eq!(of(Kernel::LstmStep), 70 + 1);
    // Three passes over 5 columns by 64 invocations, two reductions.
    assert_eq!(of(Kernel::Softmax), 3 + 2 * 64);
}

/// On a software adapter no dispatch may reach the silent stop; on hardware there is none.
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
    let error = plan(&network, RunShape::new(1, 1), &software, &PlanOptions::default()).unwrap_err();
    let Error::TooLarge { what, needed, limit, .. } = error else { panic!("{error}") };
    assert_eq!(
        (what.as_str(), needed, limit),
        ("dense: loop iterations of one invocation", 118_141, SOFTWARE_LOOP_LIMIT)
    );
    assert!(plan(&network, RunShape::new(1, 1), &PlanLimits::default(), &PlanOptions::default()).is_ok());
}

#[test]
fn the_projection_is_cut_where_it_would_not_fit() {
    let network = network(lstm(8, 64));
    let of = |steps, limits: &PlanLimits, options: &PlanOptions| {
        plan(&network, RunShape::new(steps, 4), limits, options).unwrap()
    };
    let whole = of(100, &PlanLimits::default(), &PlanOptions::default());
    assert!(!whole.reasons.iter().any(|reason| reason.contains("at a time")));
    // One step takes 4 rows of 256 numbers of 4 bytes.
    let cut = of(100, &PlanLimits::default(), &PlanOptions::default().projection_budget(30 * 4096));
    assert!(cut.reasons.iter().any(|reason| reason.contains("30 of 100 timesteps at a time")), "{cut}");
    let projections = cut.dispatches.iter().filter(|d| d.kernel == Kernel::Linear && cut.stages[d.stage] == "lstm.l0");
    assert_eq!(projections.map(|dispatch| dispatch.rows).collect::<Vec<_>>(), [120, 120, 120, 40]);
    let small = PlanLimits { max_binding: 110_000, ..PlanLimits::default() };
    assert!(of(100, &small, &PlanOptions::default()).reasons.iter().any(|r| r.contains("26 of 100")));
}

#[test]
fn work_is_cut_into_submissions() {
    let network = network(lstm(64, 1024));
    let plan = plan(&network, RunShape::new(500, 16), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    assert!(plan.submissions() > 4);
    let mut work = vec![0u64; plan.submissions()];
    for dispatch in &plan.dispatches {
        work[dispatch.submission] += dispatch.work * u64::from(dispatch.repeat);
    }
    assert!(work.iter().all(|&work| work <= 4 << 30), "{work:?}");
}

#[test]
fn a_small_problem_is_split_and_says_why() {
    let network = network(lstm(8, 64));
    let reasons = |software, batch| {
        let limits = PlanLimits { software, ..PlanLimits::default() };
        plan(&network, RunShape::new(2, batch), &limits, &PlanOptions::default()).unwrap().reasons.join("; ")
    };
    assert!(reasons(false, 1).contains("split 16, 16 units per workgroup: B*H = 64 invocations alone cannot fill"));
    assert!(reasons(false, 512).contains("split 1, 64 units per workgroup: B*H = 32768 invocations fill"));
    assert!(reasons(true, 1).contains("split 1, 64 units per workgroup: a software adapter"));
}

#[test]
fn nothing_and_too_much_are_refused() {
    let network = network(lstm(8, 64));
    let plan =
        |steps, batch| plan(&network, RunShape::new(steps, batch), &PlanLimits::default(), &PlanOptions::default());
    assert!(matches!(plan(0, 1), Err(Error::Shape { .. })));
    assert!(matches!(plan(1, 0), Err(Error::Shape { .. })));
    let error = plan(1 << 20, 1 << 20).unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { .. }) && error.to_string().contains("largest storage binding"),
        "{error}"
    );
    assert!(matches!(plan(usize::MAX, usize::MAX), Err(Error::TooLarge { .. })));
}
