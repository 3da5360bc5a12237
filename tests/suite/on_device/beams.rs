//! Beam search against an exhaustive search, and against a textbook implementation.

use gatefold::unstable::reference::{Real, log_probability};
use gatefold::{BeamOptions, Device, GenerateOptions, Network, Sequence, State};

use super::generate::{PROMPTS, assert_same, decoder, logits, open};
use crate::common::{changed, device};
use crate::common::{devices, pool};

/// Every continuation of up to `most` tokens that ends in `eos` or is that long, the best first.
fn exhaustive(network: &Network, start: &State, prompt: &[u32], options: &BeamOptions) -> Vec<Sequence> {
    let mut all = Vec::new();
    let mut open = vec![Sequence { tokens: Vec::new(), log_probability: 0.0, stopped: false }];
    while let Some(sequence) = open.pop() {
        if sequence.stopped || sequence.tokens.len() == options.max_new_tokens {
            all.push(sequence);
            continue;
        }
        let logits = logits(network, start, &[prompt, &sequence.tokens].concat());
        for (id, token) in (0u32..).zip(0..logits.len()) {
            open.push(Sequence {
                tokens: [&sequence.tokens[..], &[id]].concat(),
                log_probability: sequence.log_probability + log_probability(&logits, token).to_f32(),
                stopped: options.eos.contains(&id),
            });
        }
    }
    let score = |sequence: &Sequence| sequence.score(options.length_penalty);
    all.sort_by(|a, b| score(b).total_cmp(&score(a)));
    all
}

fn search(device: &Device, options: &BeamOptions, fault: impl Fn(&Network) -> Network) {
    let vocabulary = 4;
    for seed in 0..3 {
        let network = decoder(vocabulary, seed);
        let pool = pool(device, &fault(&network), 1);
        let streams = open(&pool, &network, 3);
        let starts: Vec<State> = streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
        let prompts: Vec<_> = streams.iter().copied().zip([&[0][..], &[1, 3, 2], &[2, 2]]).collect();
        let got = pool.beam_search(&prompts, options).unwrap();
        for ((start, (id, prompt)), got) in starts.iter().zip(&prompts).zip(&got) {
            let mut expected = exhaustive(&network, start, prompt, options);
            expected.truncate(options.num_beams);
            assert_same(&format!("{} {options:?}", device.info()), got, &expected);
            assert_eq!(pool.snapshot(*id).unwrap(), *start, "the stream stays where it is");
        }
        assert_eq!(pool.len(), 3, "forks are gone");
    }
}

/// With as many beams as there are continuations a beam search is exhaustive.
#[test]
fn wide_beams_are_an_exhaustive_search() {
    let device = device();
    for device in devices(device) {
        for (eos, length_penalty) in [(vec![0], 1.0), (vec![0], 0.0), (vec![1, 3], 0.6), (vec![], 1.0), (vec![2], -0.5)]
        {
            let options = BeamOptions { num_beams: 64, max_new_tokens: 3, eos, length_penalty };
            search(&device, &options, Network::clone);
        }
    }
}

/// Negative control: a decoder a little off gives other continuations.
#[test]
fn another_search_is_noticed() {
    let device = device();
    for device in devices(device) {
        let options = BeamOptions { num_beams: 64, max_new_tokens: 3, eos: vec![0], length_penalty: 1.0 };
        let nudge = |network: &Network| changed(network, "dense.bias", |bias| bias[1] += 0.05);
        let nudged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| search(&device, &options, nudge)));
        assert!(nudged.is_err(), "{}", device.info());
    }
}

/// A narrow search as the textbook has it: whole sequences, ranked and cut in every step.
fn narrow(network: &Network, start: &State, prompt: &[u32], options: &BeamOptions) -> Vec<Sequence> {
    let none = Sequence { tokens: Vec::new(), log_probability: 0.0, stopped: false };
    let (mut beams, mut finished) = (vec![none], Vec::new());
    for _ in 0..options.max_new_tokens {
        let mut next = Vec::new();
        for beam in &beams {
            let logits = logits(network, start, &[prompt, &beam.tokens].concat());
            next.extend((0u32..).zip(0..logits.len()).map(|(id, token)| Sequence {
                tokens: [&beam.tokens[..], &[id]].concat(),
                log_probability: beam.log_probability + log_probability(&logits, token).to_f32(),
                stopped: options.eos.contains(&id),
            }));
        }
        next.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        finished.extend(next.iter().take(options.num_beams).filter(|sequence| sequence.stopped).cloned());
        beams = next.into_iter().filter(|sequence| !sequence.stopped).take(options.num_beams).collect();
    }
    finished.extend(beams);
    finished.sort_by(|a, b| b.score(options.length_penalty).total_cmp(&a.score(options.length_penalty)));
    finished.truncate(options.num_beams);
    finished
}

/// A search that ends early ends with what it would have ended with, its best before all.
#[test]
fn narrow_beams_follow_the_textbook() {
    let device = device();
    for device in devices(device) {
        for num_beams in [1, 2, 3, 5] {
            let network = decoder(7, 3);
            let pool = pool(&device, &network, 1);
            let streams = open(&pool, &network, 5);
            let starts: Vec<State> = streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
            let prompts: Vec<_> = streams.iter().copied().zip(PROMPTS).collect();
            let options = BeamOptions { num_beams, max_new_tokens: 7, eos: vec![4, 1], length_penalty: 1.0 };
            let got = pool.beam_search(&prompts, &options).unwrap();
            for ((start, prompt), got) in starts.iter().zip(PROMPTS).zip(&got) {
                let expected = narrow(&network, start, prompt, &options);
                assert_same(&format!("{} {num_beams}", device.info()), got, &expected);
            }
        }
        // One beam without an end is greedy.
        let network = decoder(7, 4);
        let pool = pool(&device, &network, 1);
        let prompts = [(pool.open().unwrap(), &[1, 2][..])];
        let options = BeamOptions { num_beams: 1, max_new_tokens: 9, ..Default::default() };
        let beams = pool.beam_search(&prompts, &options).unwrap();
        let greedy = pool.generate(&prompts, &GenerateOptions { max_new_tokens: 9, ..Default::default() }).unwrap();
        assert_same("one beam", &beams[0], &greedy);
    }
}
