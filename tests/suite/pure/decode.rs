//! The part of a plan after a step of generation, and the reference implementations of its kernels.

use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec};
use gatefold::unstable::plan::{CHOICE_HEAD, Kernel, PlanParts, candidates, choose, steps_at_once};
use gatefold::unstable::reference;
use gatefold::{Error, Network, Plan, PlanLimits, PlanOptions, RunShape};

use crate::common::{lstm, spec};

fn planned(vocabulary: usize, batch: usize) -> Plan {
    let layers = vec![
        LayerSpec::Embedding(EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: vocabulary,
            embedding_dim: 2,
            mask_zero: false,
        }),
        LayerSpec::Lstm(lstm(2, 3)),
        LayerSpec::Dense(DenseSpec {
            name: "dense".into(),
            in_features: 3,
            out_features: vocabulary,
            bias: true,
            activation: Activation::Linear,
        }),
    ];
    let network = Network::random(spec(layers), 1).unwrap();
    Plan::new(&network, RunShape::new(1, batch), &PlanLimits::default(), &PlanOptions::default()).unwrap()
}

/// What a kernel reaches lies within what is bound, and a workgroup is there for every row.
#[test]
fn choices_stay_within_their_buffers() {
    let limits = PlanLimits::default();
    for (vocabulary, batch) in [(1, 1), (65, 7), (3, 70_000)] {
        let run = planned(vocabulary, batch);
        let parts = PlanParts::of(&run);
        let (rows, own) = (batch as u64, parts.buffers.len());
        let dispatch = choose(&run, true, 3, 5, &limits).unwrap();
        assert_eq!(dispatch.kernel, Kernel::Choose);
        assert_eq!(
            (dispatch.constant("FEATURES"), dispatch.constant("SAMPLE")),
            (u32::try_from(vocabulary).ok(), Some(1))
        );
        let bound: Vec<(usize, u64)> = dispatch.bindings.iter().map(|slice| (slice.buffer, slice.bytes)).collect();
        let logits = (parts.outputs.last().unwrap().buffer, 4 * rows * vocabulary as u64);
        let own_buffers =
            [(own + 1, 4 * (CHOICE_HEAD as u64 + 3)), (parts.inputs[0].numbers, 4 * rows), (own, 4 * rows)];
        assert_eq!(bound, [&[logits], &own_buffers[..], &[(own + 2, 16 * rows), (own + 3, 20 * rows)]].concat());
        let list = candidates(&run, 6, &limits).unwrap();
        assert_eq!((list.kernel, list.constant("COUNT")), (Kernel::Candidates, Some(6)));
        assert_eq!((list.bindings[1].buffer, list.bindings[1].bytes), (own, 4 * rows * 14));
        for dispatch in [dispatch, list] {
            let [x, y, z] = dispatch.workgroups.map(u64::from);
            assert!(x * y >= rows && z == 1 && x.max(y) <= limits.max_workgroups.into());
            assert_eq!(u64::from(dispatch.rows), rows);
        }
    }
}

#[test]
fn what_no_adapter_can_do_is_refused() {
    let run = planned(100_000, 1);
    let software = PlanLimits { software: true, ..PlanLimits::default() };
    assert!(choose(&run, true, 0, 1, &PlanLimits::default()).is_ok() && choose(&run, false, 0, 1, &software).is_ok());
    let refused = |result: gatefold::Result<_>| match result {
        Err(Error::TooLarge { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert!(refused(choose(&run, true, 0, 1, &software)).contains("loop iterations"));
    assert!(refused(candidates(&run, 40, &software)).contains("loop iterations"));
    assert!(refused(choose(&run, false, 0, usize::MAX, &software)).contains("tokens of a call"));
    // A submission is short, however long the generation.
    let run = planned(10, 1);
    assert!(steps_at_once(&run, 5) as u64 * (run.dispatch_count() + 5) <= 4096);
    assert_eq!(steps_at_once(&run, usize::MAX), 1);
}

#[test]
fn candidates_are_the_best_in_order() {
    let row = [0.5f64, 2.0, -1.0, 2.0, 0.5];
    let found = reference::candidates(&row, 4);
    assert_eq!(found.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [1, 3, 0, 4], "of equals the lowest");
    let all = reference::candidates(&row, 9);
    assert_eq!(all.len(), 5);
    assert!((all.iter().map(|(_, log)| log.exp()).sum::<f64>() - 1.0).abs() < 1e-12, "probabilities add up");
    assert_eq!(reference::first_bad(&[1.0f32, f32::INFINITY, f32::NAN]), Some(1));
    assert_eq!(reference::first_bad(&row), None);
    // Far logits neither overflow nor vanish.
    assert_eq!(reference::log_probability(&[3e38f32, -3e38], 0), 0.0);
}
