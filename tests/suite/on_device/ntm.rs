//! Layers with a memory against the f64 reference, in pieces, with masks, and their state as a value.

use std::sync::Arc;

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, HeadOrder, Init, LayerSpec, MemorySpec, MemoryStart, NtmSpec, RecurrentOutput, StartWeights,
};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::{DeviceKind, Input, Network, PlanOptions, RandomInput, Session, State, StreamPool, verify};

use crate::common::{assert_right, assert_right_as_f32, changed, device, in_repository, random_state, selected, spec};

/// Whether the device runs a layer: a GPU has three of the controllers.
fn runs_here(layer: &NtmSpec) -> bool {
    device().info().kind == DeviceKind::Cpu || matches!(layer.cell, Cell::Lstm | Cell::Gru | Cell::Rnn)
}

/// A layer with random options.
pub fn random_memory(rng: &mut Rng) -> NtmSpec {
    let functions = [Activation::Linear, Activation::Tanh];
    let (rows, columns) = (rng.usize(3..20), rng.usize(1..9));
    let start = [MemoryStart::Random, MemoryStart::Constant, MemoryStart::Learned][rng.usize(0..3)];
    // Of a constant memory with equal weights nothing depends on what is addressed.
    let starts = [StartWeights::Zero, StartWeights::Uniform, StartWeights::Learned];
    let controllers: Vec<Cell> = Cell::ALL.into_iter().filter(|cell| cell.cells().len() < 2).collect();
    NtmSpec {
        cell: [Cell::Lstm, Cell::Lstm, controllers[rng.usize(..controllers.len())]][rng.usize(0..3)],
        memory: MemorySpec { rows, columns, start },
        read_heads: rng.usize(1..4),
        write_heads: rng.usize(1..4),
        shifts: rng.usize(0..=((rows - 1) / 2).min(2)),
        key_activation: functions[rng.usize(0..2)],
        add_activation: functions[rng.usize(0..2)],
        clip: [None, Some(rng.f32() + 0.5)][rng.usize(0..2)],
        order: [HeadOrder::ReadFirst, HeadOrder::Sequential, HeadOrder::WriteFirst][rng.usize(0..3)],
        start_weights: starts[rng.usize(0..3)],
        initial_state: rng.bool(),
        output: if rng.u8(0..4) == 0 { RecurrentOutput::Last } else { RecurrentOutput::Sequence },
        ..NtmSpec::new("memory", rng.usize(1..7), rng.usize(1..12), [rows, columns])
    }
}

/// Random weights, twice as large as usual for the heads.
pub fn memory_network(layer: &NtmSpec, seed: u64) -> Network {
    Network::random(spec(vec![LayerSpec::Ntm(layer.clone())]), seed).unwrap()
}

fn numbers(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

#[test]
fn every_memory_agrees() {
    for seed in selected(0..80u64) {
        let mut rng = Rng::with_seed(seed);
        let layer = random_memory(&mut rng);
        if !runs_here(&layer) {
            continue;
        }
        let network = memory_network(&layer, seed);
        let (steps, batch) = (rng.usize(1..9), rng.usize(1..12));
        let x = numbers(&mut rng, steps * batch * layer.input_size);
        let input = Input::features(&x, [steps, batch, layer.input_size]);
        let lengths: Vec<usize> = (0..batch).map(|row| [rng.usize(0..=steps), 0, steps][row % 3]).collect();
        let mask: Vec<bool> = (0..steps * batch).map(|_| rng.bool()).collect();
        let input = match seed % 3 {
            0 => input,
            1 => input.with_lengths(&lengths),
            _ => input.with_mask(&mask),
        };
        let state = rng.bool().then(|| random_state(&network, batch, seed));
        assert_right(device(), &network, PlanOptions::default(), input, state.as_ref());
    }
}

/// The sizes of the paper, and those that no vector and no workgroup divides.
#[test]
fn large_memories_agree() {
    for (hidden, rows, columns, reads) in [(100, 128, 20, 1), (33, 300, 7, 2), (64, 17, 64, 1)] {
        let layer =
            NtmSpec { read_heads: reads, clip: Some(20.0), ..NtmSpec::new("memory", 9, hidden, [rows, columns]) };
        let network = Network::initialized(spec(vec![LayerSpec::Ntm(layer)]), Init::PyTorch, 5).unwrap();
        let input = RandomInput::new(&network, 30, 3, 6).unwrap();
        assert_right(device(), &network, PlanOptions::default(), input.as_input(), None);
    }
}

fn paper() -> Network {
    let layer = NtmSpec { clip: Some(20.0), ..NtmSpec::new("memory", 9, 40, [24, 10]) };
    Network::initialized(spec(vec![LayerSpec::Ntm(layer)]), Init::PyTorch, 8).unwrap()
}

/// Negative controls: one weight of a head, one number of the memory, one shift the other way.
#[test]
fn faults_are_seen() {
    let network = paper();
    let session = Session::new(device(), &network).unwrap();
    let input = RandomInput::new(&network, 12, 2, 6).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
    for name in ["memory.heads.weight", "memory.memory", "memory.heads.bias"] {
        let other = changed(&network, name, |numbers| numbers[1] += 0.5);
        assert!(!verify(&session, &other, input.as_input(), None).unwrap().passed(), "{name}");
    }
    // The shifts of the read head are its controls 12 to 14.
    let turned = changed(&network, "memory.heads.weight", |numbers| {
        let (first, second) = numbers.split_at_mut(14 * 40);
        first[12 * 40..13 * 40].swap_with_slice(&mut second[..40]);
    });
    assert!(!verify(&session, &turned, input.as_input(), None).unwrap().passed());
}

/// A row's bits do not depend on the batch it is in, and a masked step changes nothing.
#[test]
fn rows_do_not_depend_on_each_other() {
    let (network, mut rng) = (paper(), Rng::with_seed(2));
    let session = Session::new(device(), &network).unwrap();
    let (steps, batch, width) = (9, 21, 9);
    let x = numbers(&mut rng, steps * batch * width);
    let together = session.run(Input::features(&x, [steps, batch, width]), None).unwrap();
    for row in [0, 7, 20] {
        let alone: Vec<f32> = (0..steps).flat_map(|t| x[(t * batch + row) * width..][..width].to_vec()).collect();
        let output = session.run(Input::features(&alone, [steps, 1, width]), None).unwrap();
        for t in 0..steps {
            let of = &together.values[(t * batch + row) * 50..][..50];
            assert_eq!(output.values[t * 50..][..50], *of, "row {row}, step {t}");
        }
        // Masked steps between the others.
        let mut spread = vec![0.5; 2 * steps * width];
        let mask: Vec<bool> = (0..2 * steps).map(|t| t % 2 == 1).collect();
        for t in 0..steps {
            spread[(2 * t + 1) * width..][..width].copy_from_slice(&alone[t * width..][..width]);
        }
        let masked = session.run(Input::features(&spread, [2 * steps, 1, width]).with_mask(&mask), None).unwrap();
        for t in 0..steps {
            assert_eq!(masked.values[(2 * t + 1) * 50..][..50], output.values[t * 50..][..50]);
            assert_eq!(masked.values[2 * t * 50..][..50], [0.0; 50]);
        }
        assert_eq!(masked.state, output.state);
    }
}

/// Cut at every step of 200, saved, loaded, restored into another pool and forked: the bits are those of the uncut run.
#[test]
fn cuts_change_no_bit() {
    const STEPS: usize = 200;
    let (network, mut rng) = (paper(), Rng::with_seed(3));
    let session = Arc::new(Session::new(device(), &network).unwrap());
    let x = numbers(&mut rng, STEPS * 9);
    let input = |from: usize, to: usize| Input::features(&x[from * 9..to * 9], [to - from, 1, 9]);
    let whole = session.run(input(0, STEPS), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (first, second) = (StreamPool::new(session.clone(), 1).unwrap(), StreamPool::new(session.clone(), 4).unwrap());
    let stream = first.open().unwrap();
    for cut in 1..STEPS {
        let answer = first.advance(&[(stream, input(cut - 1, cut))]).unwrap();
        assert_eq!(answer.values(0), &whole.values[(cut - 1) * 50..cut * 50], "step {cut}");
        first.snapshot(stream).unwrap().save(&path, &network).unwrap();
        let other = second.open().unwrap();
        second.restore(other, &State::load(&path, &network).unwrap()).unwrap();
        let fork = second.fork(other).unwrap();
        // The fork goes its own way first.
        second.advance(&[(fork, input(0, 1))]).unwrap();
        // All that is left every so often, else some steps.
        let to = if cut % 20 == 0 { STEPS } else { STEPS.min(cut + 2) };
        let rest = second.advance(&[(other, input(cut, to))]).unwrap();
        assert_eq!(rest.values(0), &whole.values[cut * 50..to * 50], "cut at {cut}");
        if to == STEPS {
            assert_eq!(second.snapshot(other).unwrap(), whole.state, "cut at {cut}");
        }
        // Negative control: another row of the memory is another answer.
        let mut state = State::load(&path, &network).unwrap();
        state.layers[0].part_mut("memory").unwrap().data[3] += 1.0;
        second.restore(fork, &state).unwrap();
        let changed = second.advance(&[(fork, input(cut, to))]).unwrap();
        assert_ne!(changed.values(0), rest.values(0), "cut at {cut}");
        second.close(other).unwrap();
        second.close(fork).unwrap();
    }
}

/// What a GPU does not do is an error that says so.
#[test]
fn other_controllers_are_refused() {
    if device().info().kind == DeviceKind::Cpu {
        return;
    }
    let layer = NtmSpec { cell: Cell::MinGru, ..NtmSpec::new("memory", 2, 3, [4, 2]) };
    let network = memory_network(&layer, 1);
    let error = Session::new(device(), &network).unwrap_err().to_string();
    assert!(error.contains("layer `memory`: min_gru as the controller of a memory on a GPU"), "{error}");
    let error = Trainer::new(device(), &network, TrainOptions::new(Loss::Mse)).unwrap_err().to_string();
    assert!(error.contains("layer `memory`: min_gru as the controller of a memory on a GPU"), "{error}");
}

/// Weights of heads that are no shares would make numbers that are none: a state with such is refused, and nothing has changed.
#[test]
fn wrong_weights_in_a_state_are_refused() {
    let network = paper();
    let session = Arc::new(Session::new(device(), &network).unwrap());
    let pool = StreamPool::new(session.clone(), 2).unwrap();
    let stream = pool.open().unwrap();
    let x = numbers(&mut Rng::with_seed(7), 9);
    let input = || Input::features(&x, [1, 1, 9]);
    pool.advance(&[(stream, input())]).unwrap();
    let before = pool.snapshot(stream).unwrap();
    for wrong in [-0.25, 1.5, f32::NAN, f32::INFINITY] {
        let mut state = before.clone();
        state.layers[0].part_mut("weights").unwrap().data[5] = wrong;
        let expected = format!("number 5 of `memory.weights`: expected a share from 0 to 1, got {wrong}");
        let errors = [
            pool.restore(stream, &state).unwrap_err(),
            pool.set_states(&[stream], &state).unwrap_err(),
            session.run(input(), Some(&state)).unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains(&expected), "{error}");
        }
        let error = pool.poke(stream, "memory", "weights", 5, &[wrong]).unwrap_err().to_string();
        assert!(error.contains("memory.weights"), "{error}");
        let mut trainer = Trainer::new(device(), &network, TrainOptions::new(Loss::Mse)).unwrap();
        let values = [0.0; 50];
        let batch = Batch { input: input(), targets: Targets::Values(&values), weights: None };
        assert!(trainer.step_from(&batch, &mut state).unwrap_err().to_string().contains(&expected));
        assert_eq!(pool.snapshot(stream).unwrap(), before);
    }
    // Negative control: a share is taken, and changes the answer.
    let unchanged = pool.fork(stream).unwrap();
    pool.poke(stream, "memory", "weights", 5, &[0.75]).unwrap();
    let answers = pool.advance(&[(stream, input()), (unchanged, input())]).unwrap();
    assert_ne!(answers.values(0), answers.values(1));
    assert!(answers.values(0).iter().all(|x| x.is_finite()));
}

/// A network that has learned to copy up to 20 vectors of 8 bits, of `gatefold train --task copy --seed 5`.
fn solved() -> Network {
    Network::load(in_repository("tests/goldens/ntm_copy.safetensors")).unwrap()
}

type Vectors = Vec<[bool; 8]>;

fn vectors(rng: &mut Rng, length: usize) -> Vectors {
    (0..length).map(|_| std::array::from_fn(|_| rng.bool())).collect()
}

/// The vectors and the mark behind them.
fn shown(vectors: &Vectors) -> Vec<f32> {
    let bits = |vector: &[bool; 8]| vector.map(|bit| f32::from(u8::from(bit))).into_iter().chain([0.0]);
    vectors.iter().flat_map(bits).chain([0.0; 8]).chain([1.0]).collect()
}

/// What is recalled after the mark, from a state.
fn recalled(session: &Session, state: &State, length: usize) -> Vectors {
    let zeros = vec![0.0; length * 9];
    let output = session.run(Input::features(&zeros, [length, 1, 9]), Some(state)).unwrap();
    output.values.chunks_exact(8).map(|logits| std::array::from_fn(|bit| logits[bit] > 0.0)).collect()
}

fn wrong(a: &Vectors, b: &Vectors) -> usize {
    a.iter().flatten().zip(b.iter().flatten()).filter(|(a, b)| a != b).count()
}

/// Trained on up to 20 vectors, it copies 120, and must fail where there are more vectors than rows of the memory.
#[test]
fn a_solved_copy_goes_on_to_the_end_of_its_memory() {
    let (network, mut rng) = (solved(), Rng::with_seed(4));
    let session = Session::new(device(), &network).unwrap();
    let mut faults = |length: usize| {
        let all = vectors(&mut rng, length);
        let x = shown(&all);
        let state = session.run(Input::features(&x, [length + 1, 1, 9]), None).unwrap().state;
        wrong(&recalled(&session, &state, length), &all)
    };
    for length in [1, 10, 20, 60, 120] {
        assert_eq!(faults(length), 0, "length {length}");
    }
    assert!(faults(160) > 80, "more vectors than the memory has rows");
}

/// Sharp addressing corrects itself: over 241 steps a solved network's logits of up to 44 are as exact as f32 is. Its memory, with
/// numbers of 15, is off by no more than f32 alone makes it.
#[test]
fn a_solved_copy_agrees_over_hundreds_of_steps() {
    let network = solved();
    let mut x = shown(&vectors(&mut Rng::with_seed(5), 120));
    x.extend([0.0; 120 * 9]);
    assert_right_as_f32(device(), &network, Input::features(&x, [241, 1, 9]), None);
}

/// One row of the memory is overwritten in mid-recall with what another sequence wrote there: that vector is recalled as the
/// other's, and no other bit changes.
#[test]
fn one_overwritten_slot_changes_one_answer() {
    const LENGTH: usize = 20;
    let (network, mut rng) = (solved(), Rng::with_seed(6));
    let session = Session::new(device(), &network).unwrap();
    for place in [3, 9, 16] {
        let both = [(); 2].map(|()| vectors(&mut rng, LENGTH));
        // The states behind the mark, and the row that the write head writes to at each step.
        let [a, b] = both.each_ref().map(|all| {
            let (mut state, mut rows) = (State::<f32>::initial(&network, 1).unwrap(), Vec::new());
            for x in shown(all).chunks_exact(9) {
                state = session.run(Input::features(x, [1, 1, 9]), Some(&state)).unwrap().state;
                let weights = &state.layers[0].part("weights").unwrap().data[128..];
                let row = (0..128).max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap();
                rows.push(row);
            }
            (state, rows)
        });
        assert_eq!(recalled(&session, &a.0, LENGTH), both[0]);
        // Three answers before the change.
        let zeros = [0.0; 3 * 9];
        let mut state = session.run(Input::features(&zeros, [3, 1, 9]), Some(&a.0)).unwrap().state;
        let (to, from) = (a.1[place] * 20, b.1[place] * 20);
        let other = b.0.layers[0].part("memory").unwrap().data[from..from + 20].to_vec();
        state.layers[0].part_mut("memory").unwrap().data[to..to + 20].copy_from_slice(&other);
        let got = recalled(&session, &state, LENGTH - 3);
        for (at, vector) in got.iter().enumerate() {
            let expected = if at + 3 == place { &both[1] } else { &both[0] };
            assert_eq!(*vector, expected[at + 3], "place {place}, answer {}", at + 3);
        }
        assert_ne!(both[0][place], both[1][place]);
    }
}
