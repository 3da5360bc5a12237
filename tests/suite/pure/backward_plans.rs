//! How the backward pass of a recurrence is planned: the strategy, its reason, and what an adapter allows.

use gatefold::network::{Cell, LayerSpec, Network, RecurrentSpec};
use gatefold::train::{Loss, RecurrentDropout, TrainOptions};
use gatefold::unstable::plan::{Dispatch, Kernel, PlanParts, SOFTWARE_LOOP_LIMIT, TrainKernel};
use gatefold::{Plan, PlanLimits, RunShape, Strategy};

use crate::common::spec;

const HARDWARE: PlanLimits = PlanLimits {
    max_binding: 1 << 30,
    max_buffer: 1 << 30,
    max_workgroups: 65_535,
    max_invocations: 256,
    max_workgroup_memory: 16 << 10,
    resident_workgroups: 0,
    registers: 64 << 10,
    f16: false,
    matrix_units: None,
    software: false,
    subgroup: 0,
    unrolls: false,
};
const SOFTWARE: PlanLimits = PlanLimits { software: true, ..HARDWARE };

fn options() -> TrainOptions {
    TrainOptions::new(Loss::Mse)
}

fn planned(
    (cell, hidden): (Cell, usize),
    [steps, batch]: [usize; 2],
    limits: &PlanLimits,
    options: &TrainOptions,
    change: impl FnOnce(&mut RecurrentSpec),
) -> Plan {
    let mut layer = RecurrentSpec::new("cell", 4, hidden);
    change(&mut layer);
    let network = Network::random(spec(vec![LayerSpec::of_cell(cell, layer)]), 1).unwrap();
    options.plan(&network, RunShape::new(steps, batch), limits).unwrap()
}

/// The strategy of the only backward pass, and why.
fn choice(plan: &Plan) -> (Strategy, &str) {
    let [choice] = &plan.backward[..] else { panic!("{plan}") };
    (choice.strategy, &choice.reason)
}

fn back(plan: &Plan) -> Vec<&Dispatch> {
    let goes_back = |one: &&Dispatch| matches!(one.kernel, Kernel::Train(TrainKernel::RecurrentBackward(_)));
    PlanParts::of(plan).dispatches.iter().filter(goes_back).collect()
}

#[test]
fn the_plan_chooses_by_shape_and_adapter() {
    let of = |shape: (Cell, usize), batch, limits: &PlanLimits| {
        let plan = planned(shape, [20, batch], limits, &options(), |_| {});
        let (strategy, reason) = choice(&plan);
        assert!(plan.to_string().contains(&format!("backward: {strategy}: ")), "{plan}");
        (strategy, reason.to_owned())
    };
    let (strategy, reason) = of((Cell::Lstm, 128), 32, &HARDWARE);
    assert_eq!(strategy, Strategy::Sequence);
    assert!(reason.contains("no launch per step") && reason.contains("320.0 KiB"), "{reason}");
    assert_eq!(of((Cell::Lstm, 256), 32, &HARDWARE).0, Strategy::Step);
    let (strategy, reason) = of((Cell::Lstm, 1024), 128, &HARDWARE);
    assert_eq!(strategy, Strategy::Tile);
    assert!(reason.contains("128 rows"), "{reason}");
    assert_eq!(of((Cell::Lstm, 1024), 8, &HARDWARE).0, Strategy::Step);
    assert_eq!(of((Cell::LayerNormLstm, 64), 8, &HARDWARE).0, Strategy::Step);
    let (strategy, reason) = of((Cell::Lstm, 128), 1, &SOFTWARE);
    assert_eq!(strategy, Strategy::Tile);
    assert!(reason.contains("reads the fewest numbers"), "{reason}");
    // An option names it.
    for strategy in [Strategy::Step, Strategy::Tile, Strategy::Sequence] {
        let plan = planned((Cell::Gru, 40), [20, 32], &HARDWARE, &options().strategy(strategy), |_| {});
        assert_eq!(choice(&plan).0, strategy);
        assert!(choice(&plan).1.starts_with("asked for"), "{plan}");
        let forward: Vec<Strategy> = plan.choices.iter().map(|choice| choice.strategy).collect();
        assert_eq!(forward, [strategy]);
        let dispatches: u32 = back(&plan).iter().map(|one| one.repeat).sum();
        assert_eq!(dispatches, if strategy == Strategy::Sequence { 1 } else { 20 });
    }
}

#[test]
fn a_strategy_that_does_not_run_a_level_is_replaced() {
    let asked = options().strategy(Strategy::Sequence);
    let dropped = asked.clone().recurrent_dropout(RecurrentDropout::new("cell", 0.0, 0.2));
    type Change = fn(&mut RecurrentSpec);
    let cases: [(Cell, usize, &TrainOptions, Change, &str); 5] = [
        (Cell::Lstm, 9, &asked, |layer| layer.proj_size = 5, "two dispatches per step"),
        (Cell::Gru, 9, &asked, |layer| layer.reset_after = false, "two dispatches per step"),
        (Cell::LayerNormLstm, 9, &asked, |_| {}, "layer-normalized"),
        (Cell::Lstm, 9, &dropped, |_| {}, "dropped"),
        (Cell::Lstm, 300, &asked, |_| {}, "bytes of workgroup memory, the adapter has 16384"),
    ];
    for (cell, hidden, options, change, why) in cases {
        let plan = planned((cell, hidden), [6, 4], &HARDWARE, options, change);
        let (strategy, reason) = choice(&plan);
        assert_eq!(strategy, Strategy::Step, "{plan}");
        assert!(reason.starts_with("not sequence: ") && reason.contains(why), "{reason}");
    }
    // What it does run it runs.
    assert_eq!(choice(&planned((Cell::Lstm, 256), [6, 4], &HARDWARE, &asked, |_| {})).0, Strategy::Sequence);
    let network = Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec::new("cell", 2, 3))]), 1).unwrap();
    for strategy in [Strategy::Wavefront, Strategy::Resident] {
        let error = options().strategy(strategy).plan(&network, RunShape::new(2, 1), &HARDWARE).unwrap_err();
        assert!(error.to_string().contains("step, tile or sequence"), "{error}");
    }
}

/// A software adapter leaves a shader after so many iterations: a sequence is cut there.
#[test]
fn sequences_are_cut_for_software_adapters() {
    let asked = options().strategy(Strategy::Sequence);
    for hidden in [1, 8, 100, 128] {
        for batch in [1, 5, 32] {
            let of = |limits| planned((Cell::Lstm, hidden), [3000, batch], limits, &asked, |_| {});
            let (cut, whole) = (of(&SOFTWARE), of(&HARDWARE));
            assert_eq!(choice(&cut).0, Strategy::Sequence);
            let stride = back(&cut)[0].recurrence.unwrap().stride;
            assert!(back(&cut).iter().all(|one| one.iterations <= SOFTWARE_LOOP_LIMIT), "{cut}");
            let repeats: u32 = back(&cut).iter().map(|one| one.repeat).sum();
            assert_eq!(repeats, 3000u32.div_ceil(stride), "{cut}");
            // One step more would be too many, but for the few with which a dispatch begins.
            let each = back(&cut)[0].iterations / u64::from(stride);
            assert!(stride == 3000 || each * u64::from(stride + 1) > SOFTWARE_LOOP_LIMIT - each, "{cut}");
            // Negative control: the other adapter's dispatches are longer.
            assert!(back(&whole)[0].recurrence.unwrap().stride >= stride);
        }
    }
    let of = |limits| planned((Cell::Lstm, 128), [3000, 1], limits, &asked, |_| {});
    assert!(back(&of(&HARDWARE))[0].iterations > SOFTWARE_LOOP_LIMIT);
}
