//! Every strategy, in every arithmetic and with weights in every format, for every cell.

use std::time::{Duration, Instant};

use fastrand::Rng;
use gatefold::compare::{Tolerance, compare};
use gatefold::network::{
    Activation, Cell, CellNorm, GateNorm, LayerSpec, MaskedOutput, RecurrentOutput, RecurrentSpec, WeightFormat,
};
use gatefold::unstable::plan::{Blocks, Held, PlanParts, RecurrentKernel, Rung};
use gatefold::{Arithmetic, Check, Device, Error, Network, PlanOptions, RandomInput, Session, Strategy, verify};

use crate::common::{changed, device, lstm, random_state, selected, spec};
use crate::on_device::cells::{functions, normalizes, of_slstm, zone_out};

fn network(cell: Cell, layer: RecurrentSpec, seed: u64) -> Network {
    let layer = LayerSpec::of_cell(cell, layer);
    Network::random(spec(vec![layer]), seed).unwrap()
}

/// A layer that every strategy may run, but for the number of levels.
fn layer(cell: Cell, strategy: Strategy, rng: &mut Rng) -> RecurrentSpec {
    let mut layer = RecurrentSpec::new("cell", rng.usize(1..=19), rng.usize(1..=70));
    match strategy {
        // Its levels do not stack; its directions go together.
        Strategy::Wavefront if normalizes(cell) => layer.bidirectional = true,
        Strategy::Wavefront => layer.num_layers = rng.usize(2..=4),
        _ => {
            layer.num_layers = rng.usize(1..=2);
            layer.bidirectional = rng.bool();
        }
    }
    layer.reverse = !layer.bidirectional && rng.bool();
    layer.output = [RecurrentOutput::Sequence, RecurrentOutput::Last][rng.usize(0..2)];
    layer.masked_output = [MaskedOutput::Zero, MaskedOutput::Previous][rng.usize(0..2)];
    layer.bias = rng.u8(0..4) > 0;
    layer.clip = rng.bool().then(|| 0.2 + rng.f32());
    if cell.scans() {
        layer.clip = None;
        layer.peephole = cell == Cell::Sru && rng.bool();
    }
    if normalizes(cell) {
        layer.clip = None;
        layer.gate_norm = [GateNorm::Sum, GateNorm::Parts][rng.usize(0..2)];
        if cell == Cell::LayerNormLstm {
            layer.cell_norm = [CellNorm::State, CellNorm::Output, CellNorm::None][rng.usize(0..3)];
        }
    }
    if cell == Cell::Lstm {
        layer.peephole = rng.bool();
        layer.coupled = rng.bool();
        layer.cell_clip = rng.bool().then(|| 0.1 + rng.f32());
        if matches!(strategy, Strategy::Step | Strategy::Tile) && layer.hidden_size > 1 && rng.bool() {
            layer.proj_size = rng.usize(1..layer.hidden_size);
        }
    }
    if cell == Cell::Gru && matches!(strategy, Strategy::Step | Strategy::Tile) {
        layer.reset_after = rng.bool();
    }
    if cell == Cell::Slstm {
        of_slstm(&mut layer, rng);
    }
    zone_out(cell, &mut layer, rng);
    if rng.u8(0..3) == 0 {
        // Directions with functions of their own do not go together.
        let together = strategy == Strategy::Wavefront && normalizes(cell);
        let sets = if rng.bool() && !together { layer.directions() } else { 1 };
        layer.activations = functions(cell, sets, &Activation::ALL[1..12], rng);
    }
    layer
}

fn random_networks(strategy: Strategy, cases: u64) {
    let device = device();
    random_networks_in(device, Arithmetic::F32, strategy, cases);
}

/// Random networks of every cell and format with random shapes, states, masks and cuts against the reference.
pub fn random_networks_in(device: &Device, arithmetic: Arithmetic, strategy: Strategy, cases: u64) {
    let on_units = arithmetic == Arithmetic::Matrix;
    let several = |cell: Cell| match strategy {
        Strategy::Scan => cell.scans(),
        _ => !cell.scans() && (!normalizes(cell) || strategy != Strategy::Resident),
    };
    for cell in Cell::ALL.into_iter().filter(|&cell| several(cell)) {
        for seed in selected(0..cases) {
            let mut rng = Rng::with_seed(seed);
            let layer = layer(cell, strategy, &mut rng);
            // Each in turn, so that none is left out.
            let format = WeightFormat::ALL[usize::try_from(seed % 3).unwrap()];
            let network = network(cell, layer.clone(), seed).with_weights(format).unwrap();
            let (batch, steps) = (rng.usize(1..=9), rng.usize(1..=9));
            let batch = if strategy == Strategy::Resident { batch.min(4) } else { batch };
            // Enough for several blocks of a matrix unit.
            let batch = if on_units { batch * 4 } else { batch };
            let input = RandomInput::new(&network, steps, batch, seed ^ 1).unwrap();
            let state = rng.bool().then(|| random_state(&network, batch, seed ^ 2));
            let lengths: Vec<usize> = (0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect();
            let mask: Vec<bool> = (0..steps * batch).map(|_| rng.bool()).collect();
            let mut given = input.as_input();
            match rng.u8(0..4) {
                0 => given = given.with_lengths(&lengths),
                1 => given = given.with_mask(&mask),
                _ => {}
            }
            let mut options = PlanOptions::default().strategy(strategy).arithmetic(arithmetic);
            if rng.bool() {
                options = options.split(1 << rng.u32(0..=if on_units { 2 } else { 3 }));
            }
            if rng.u8(0..3) == 0 && strategy != Strategy::Resident {
                options = options.units(1 << rng.u32(3..=5));
            }
            if strategy == Strategy::Sequence {
                options = options.four_rows(rng.bool() && !normalizes(cell));
            }
            if rng.bool() {
                // A few timesteps at a time.
                let width = 4 * cell.gates() * layer.hidden_size * layer.directions();
                options = options.projection_budget((rng.usize(1..4) * batch * width) as u64);
            }
            let what = format!("case {seed}, T = {steps}, B = {batch}, {format} {options:?}: {layer:#?}");
            let session = Session::with_options(device, &network, options).unwrap_or_else(|e| panic!("{e}\n{what}"));
            let plan = session.plan(steps, batch).unwrap().unwrap();
            assert!(plan.choices.iter().all(|choice| choice.strategy == strategy), "{what}\n{plan}");
            let parts = PlanParts::of(&plan);
            let kernels = parts.dispatches.iter().filter_map(|dispatch| dispatch.kernel.recurrent());
            let reads = |kernel: &RecurrentKernel| kernel.rung != Rung::Normalize && !kernel.rung.scans();
            let formats = kernels.filter(reads).map(|kernel| kernel.format);
            assert!(formats.into_iter().all(|kernel| kernel == format), "{what}\n{plan}");
            let verification = verify(&session, &network, given, state.as_ref()).unwrap();
            // A small variance multiplies rounding errors: there the f32 reference says how much is right.
            let right = |check: &Check| if normalizes(cell) { check.passed() } else { check.comparison.passed };
            let failures: Vec<_> = verification.checks.iter().filter(|check| !right(check)).collect();
            assert!(failures.is_empty(), "{what}\n{failures:#?}");
        }
    }
}

#[test]
fn step_agrees() {
    random_networks(Strategy::Step, 20);
}

#[test]
fn tile_agrees() {
    random_networks(Strategy::Tile, 20);
}

#[test]
fn scan_agrees() {
    random_networks(Strategy::Scan, 5);
}

/// Invocations that share the timesteps of a unit give the bits of one that takes them all, with masked steps at every place.
#[test]
fn shared_steps_are_the_same_bits() {
    let device = device();
    let (steps, batch) = (37, 3);
    let [zero, previous] = [MaskedOutput::Zero, MaskedOutput::Previous];
    for (cell, masked_output) in
        [(Cell::MinGru, zero), (Cell::MinLstm, previous), (Cell::Sru, previous), (Cell::Qrnn, zero)]
    {
        let base = RecurrentSpec::new("cell", 5, 40);
        let network = network(cell, RecurrentSpec { bidirectional: true, masked_output, ..base }, 3);
        let input = RandomInput::new(&network, steps, batch, 4).unwrap();
        let mut rng = Rng::with_seed(5);
        let mask: Vec<bool> = (0..steps * batch).map(|at| at > 24 && rng.u8(0..3) > 0).collect();
        let state = random_state(&network, batch, 6);
        let run = |options: PlanOptions| {
            let session = Session::with_options(device, &network, options).unwrap();
            let plan = session.plan(steps, batch).unwrap().unwrap();
            let parts = PlanParts::of(&plan);
            let shared = parts.dispatches.iter().filter_map(|dispatch| dispatch.kernel.recurrent());
            let shared = shared.filter(|kernel| kernel.rung == Rung::ScanShared).count();
            let output = session.run(input.as_input().with_mask(&mask), Some(&state)).unwrap();
            let layer = &output.state.layers[0];
            let bits =
                [&output.values[..], layer.h(), layer.c()].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            (bits, shared)
        };
        let alone = run(PlanOptions::default().split(1));
        assert_eq!(alone.1, 0);
        for split in [2, 16] {
            for budget in [1 << 20, 7 * 2 * 4 * cell.gates() as u64 * 40 * batch as u64] {
                let shared = run(PlanOptions::default().split(split).projection_budget(budget));
                assert!(shared.1 > 0);
                assert!(shared.0 == alone.0, "{cell:?}, {split} invocations, {budget} bytes");
            }
        }
        // Negative control: another mask gives other bits.
        let other = Session::new(device, &network).unwrap().run(input.as_input(), Some(&state)).unwrap();
        assert_ne!(other.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), alone.0[0]);
    }
}

/// A scan has no other strategy, and no other cell has it.
#[test]
fn scans_have_one_strategy() {
    let device = device();
    for strategy in Strategy::ALL {
        let of = |cell| Session::with_options(device, &one(cell, 20, 1), PlanOptions::default().strategy(strategy));
        let refused = |cell| of(cell).is_err_and(|error| matches!(error, Error::Unsupported { .. }));
        assert_eq!(refused(Cell::MinGru), strategy != Strategy::Scan, "{strategy}");
        assert!(strategy != Strategy::Scan || refused(Cell::Lstm));
    }
}

#[test]
fn sequence_agrees() {
    random_networks(Strategy::Sequence, 20);
}

#[test]
fn wavefront_agrees() {
    random_networks(Strategy::Wavefront, 20);
}

#[test]
fn resident_agrees() {
    random_networks(Strategy::Resident, 20);
}

/// Weights in private memory, at sizes around the boundaries of the blocks. On an adapter without subgroups of eight the
/// same networks run with weights in registers, where these hold them.
#[test]
fn unrolled_agrees() {
    let device = device();
    let lavapipe = device.info().backend == "vulkan" && device.info().name.contains("llvmpipe");
    let options = PlanOptions::default().strategy(Strategy::Sequence).four_rows(false).split(1);
    let narrow = [(1, Blocks::One), (32, Blocks::One), (33, Blocks::Two), (64, Blocks::Two), (65, Blocks::Four)];
    let wide = [(129, Blocks::Eight), (256, Blocks::Eight), (257, Blocks::Sixteen)];
    let cells: Vec<Cell> = Cell::ALL.into_iter().filter(|cell| !cell.scans()).collect();
    for (index, (hidden_size, blocks)) in narrow.into_iter().chain(wide).enumerate() {
        for (turn, format) in WeightFormat::ALL.into_iter().enumerate() {
            let cell = cells[(index + turn) % cells.len()];
            let layer = RecurrentSpec { bidirectional: index % 2 == 0, ..RecurrentSpec::new("cell", 5, hidden_size) };
            let network = network(cell, layer, 21).with_weights(format).unwrap();
            let (steps, batch) = (17, 1 + index % 3);
            let unrolled = |session: &Session| {
                let plan = session.plan(steps, batch).unwrap().unwrap();
                let mut kernels =
                    PlanParts::of(&plan).dispatches.iter().filter_map(|dispatch| dispatch.kernel.recurrent());
                kernels.all(|kernel| kernel.held == Held::Unrolled(blocks))
            };
            let usual = Session::new(device, &network).unwrap();
            if hidden_size > 65 && !unrolled(&usual) {
                // The widest are left out for compilers that are slow with them (Mesa 22.3).
                continue;
            }
            let session = match Session::with_options(device, &network, options.held(true)) {
                Err(Error::Unsupported { .. }) if !lavapipe => usual,
                session => session.unwrap(),
            };
            assert_eq!(unrolled(&session), lavapipe, "H {hidden_size}");
            let input = RandomInput::new(&network, steps, batch, 22).unwrap();
            let lengths: Vec<usize> = (0..batch).map(|row| [17, 0, 9][row]).collect();
            let given = input.as_input().with_lengths(&lengths);
            let state = random_state(&network, batch, 23);
            let verification = verify(&session, &network, given, Some(&state)).unwrap();
            let failures: Vec<_> = verification.checks.iter().filter(|check| !check.comparison.passed).collect();
            assert!(failures.is_empty(), "{cell:?} {format} H {hidden_size}: {failures:#?}");
            // Negative control: the last weight of U, in the last block, is changed.
            let nudged = changed(&network, "cell.weight_hh_l0", |data| *data.last_mut().unwrap() += 1e-2);
            let seen = !verify(&session, &nudged, given, Some(&state)).unwrap().passed();
            assert!(seen, "{cell:?} {format} H {hidden_size}: the nudge went unseen");
        }
    }
}

/// As many looks as a software adapter allows: some stop a shader at 65,535 loop iterations.
const SPINS: u32 = 60_000;

fn one(cell: Cell, hidden_size: usize, seed: u64) -> Network {
    network(cell, RecurrentSpec::new("cell", 9, hidden_size), seed)
}

/// The last run followed the plan: no run has fallen back to another strategy.
fn stayed(session: &Session, steps: usize, batch: usize, strategy: Strategy) -> bool {
    session.plan(steps, batch).unwrap().unwrap().choices.iter().all(|choice| choice.strategy == strategy)
}

/// One workgroup has no others to wait for, on any adapter.
#[test]
fn a_lone_workgroup_does_not_fall_back() {
    let device = device();
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        let network = one(cell, 30, 1);
        let options = PlanOptions::default().strategy(Strategy::Resident).units(32).split(2);
        let session = Session::with_options(device, &network, options).unwrap();
        let input = RandomInput::new(&network, 25, 2, 2).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
        assert!(stayed(&session, 25, 2, Strategy::Resident), "{cell:?}");
    }
}

/// Two workgroups wait for each other at every step, and nothing falls back: each sees what the other sends after its
/// own first look. A busy machine may start the second workgroup too late, so there are many tries; without a second
/// look no try gets through so many steps.
#[test]
fn workgroups_that_wait_for_each_other_do_not_fall_back() {
    const LIMIT: Duration = Duration::from_secs(60);
    const STEPS: usize = 60;
    let device = device();
    for (cell, hidden_size) in [(Cell::Lstm, 32), (Cell::Gru, 30), (Cell::Rnn, 29)] {
        let network = one(cell, hidden_size, 1);
        let options = PlanOptions::default().strategy(Strategy::Resident).units(16).split(2).spins(SPINS);
        let input = RandomInput::new(&network, STEPS, 1, 2).unwrap();
        let start = Instant::now();
        let met = (0..).take_while(|_| start.elapsed() < LIMIT).position(|_| {
            let session = Session::with_options(device, &network, options).unwrap();
            assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
            stayed(&session, STEPS, 1, Strategy::Resident)
        });
        eprintln!("{cell:?}: met at try {met:?}");
        assert!(met.is_some(), "{cell:?}: expected a run to get through in {LIMIT:?} (the adapter needs two cores)");
    }
}

/// Workgroups that time out at once: the run is repeated one step at a time, and is right.
#[test]
fn a_timed_out_run_is_repeated_and_right() {
    let device = device();
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        let network = one(cell, 64, 3);
        let options = PlanOptions::default().strategy(Strategy::Resident).units(8).split(1).spins(1);
        let session = Session::with_options(device, &network, options).unwrap();
        let input = RandomInput::new(&network, 30, 2, 4).unwrap();
        let state = random_state(&network, 2, 5);
        assert!(stayed(&session, 30, 2, Strategy::Resident), "before the first run it is not known");
        assert!(verify(&session, &network, input.as_input(), Some(&state)).unwrap().passed(), "{cell:?}");
        assert!(!stayed(&session, 30, 2, Strategy::Resident), "{cell:?}: eight workgroups never met on one look");
        let output = pollster::block_on(session.run_async(input.as_input(), Some(&state))).unwrap();
        assert_eq!(output.values, session.run(input.as_input(), Some(&state)).unwrap().values);
    }
}

/// The same numbers from every strategy, to the tolerance table, and the same bits from one twice.
#[test]
fn strategies_agree_with_each_other() {
    let device = device();
    for (cell, num_layers) in
        [(Cell::Lstm, 1), (Cell::Gru, 2), (Cell::Rnn, 3), (Cell::LayerNormLstm, 1), (Cell::LayerNormGru, 1)]
    {
        let network = network(cell, RecurrentSpec { num_layers, ..RecurrentSpec::new("cell", 20, 48) }, 6);
        let input = RandomInput::new(&network, 12, 3, 7).unwrap();
        let mut first: Option<Vec<f64>> = None;
        for strategy in Strategy::ALL {
            let stacks = strategy != Strategy::Wavefront || num_layers > 1;
            if !stacks || strategy == Strategy::Scan || strategy == Strategy::Resident && normalizes(cell) {
                continue;
            }
            let session = Session::with_options(device, &network, PlanOptions::default().strategy(strategy)).unwrap();
            let values = session.run(input.as_input(), None).unwrap().values;
            assert_eq!(session.run(input.as_input(), None).unwrap().values, values, "{strategy}");
            let expected = first.get_or_insert_with(|| values.iter().map(|&x| x.into()).collect());
            let comparison = compare(&values, expected, Tolerance::f32(12));
            assert!(comparison.passed, "{cell:?} {strategy}: {comparison:?}");
        }
    }
}

/// Products in f16: within their own table, and not by accident within that of f32.
#[test]
fn half_arithmetic_agrees_within_its_own_tolerance() {
    let device = device();
    let (mut beyond, mut cases) = (0, 0);
    let cells = [Cell::Lstm, Cell::Gru, Cell::Rnn];
    let strategies = Strategy::ALL.into_iter().filter(|&strategy| strategy != Strategy::Scan);
    let all = strategies.flat_map(|strategy| cells.map(|cell| (strategy, cell)));
    let all = all.chain([
        (Strategy::Sequence, Cell::LayerNormLstm),
        (Strategy::Tile, Cell::LayerNormLstm),
        (Strategy::Sequence, Cell::LayerNormGru),
    ]);
    for (index, (strategy, cell)) in all.enumerate() {
        cases += 1;
        // Every strategy and every cell meets every format.
        let format = WeightFormat::ALL[(index / 3 + index) % 3];
        // A wavefront needs stacked levels.
        let num_layers = if strategy == Strategy::Wavefront { 2 } else { 1 };
        let mut layer = RecurrentSpec { num_layers, ..RecurrentSpec::new("cell", 9, 65) };
        if normalizes(cell) {
            // With less, a small variance multiplies what f16 rounds.
            layer.layer_norm_eps = 0.5;
        }
        let network = network(cell, layer, cases).with_weights(format).unwrap();
        let options = PlanOptions::default().strategy(strategy).arithmetic(Arithmetic::F16);
        let session = match Session::with_options(device, &network, options) {
            Ok(session) => session,
            Err(error) => {
                // An adapter without the feature says so.
                assert!(error.to_string().contains("SHADER_F16"), "{error}");
                return;
            }
        };
        let input = RandomInput::new(&network, 20, 3, 9).unwrap();
        let verification = verify(&session, &network, input.as_input(), None).unwrap();
        assert!(verification.passed(), "{cell:?} {strategy} {format}: {:#?}", verification.checks);
        let worst = verification.checks.iter().map(|check| check.comparison.max_error).fold(0.0, f64::max);
        eprintln!("{cell:?} {strategy} {format}: {worst:.1e}");
        beyond += u64::from(worst > Tolerance::f32(20).atol);
    }
    assert!(beyond >= cases * 3 / 4, "f16 was as exact as f32 in {} of {cases} cases", cases - beyond);
}

/// Negative control: a changed weight in each format is detected.
#[test]
fn a_nudged_weight_of_any_format_is_seen() {
    let device = device();
    for format in WeightFormat::ALL {
        let network = one(Cell::Lstm, 40, 11).with_weights(format).unwrap();
        let session = Session::new(device, &network).unwrap();
        let input = RandomInput::new(&network, 12, 3, 12).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
        for name in ["cell.weight_ih_l0", "cell.weight_hh_l0"] {
            let nudged = changed(&network, name, |data| data[100] += 1e-3);
            assert!(!verify(&session, &nudged, input.as_input(), None).unwrap().passed(), "{format} {name}");
        }
    }
}

#[test]
fn impossible_options_are_refused() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(3, 4))]), 1).unwrap();
    let default = PlanOptions::default();
    for (options, option, got) in [
        (default.split(0), "split", "0"),
        (default.split(3), "split", "3"),
        (default.split(512), "split", "512"),
        (default.units(0), "units", "0"),
        (default.units(1 << 20), "units", "1048576"),
    ] {
        let error = Session::with_options(device, &network, options).unwrap_err();
        let Error::Option { option: named, got: shown, .. } = &error else { panic!("{error:?}") };
        assert_eq!((named.as_str(), shown.as_str()), (option, got));
    }
    let error = Session::with_options(device, &network, default.strategy(Strategy::Wavefront)).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }) && error.to_string().contains("strategy wavefront"), "{error}");
}

/// A strategy with which a layer-normalized cell cannot be run is an error that gives the reason.
#[test]
fn strategies_that_a_normalized_cell_lacks_are_refused() {
    let device = device();
    let default = PlanOptions::default();
    for cell in [Cell::LayerNormLstm, Cell::LayerNormGru] {
        for (options, reason) in [
            (default.strategy(Strategy::Resident), "all sums of a row in one workgroup"),
            (default.strategy(Strategy::Sequence).four_rows(true), "one row in a workgroup, not four"),
        ] {
            let error = Session::with_options(device, &one(cell, 20, 1), options).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
