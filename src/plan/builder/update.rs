//! The step of the optimizer, and the weights as the next run reads them.

use super::{Builder, TrainBuild, flat_grid, grid};
use crate::base::error::Result;
use crate::network::Network;
use crate::plan::train::{TrainLayout, TrainTask, is_keras};
use crate::plan::{Constants, Dispatch, Kernel, ROW_WORKGROUP, TrainKernel};
use crate::reference::{Clip, Convention, Optimizer, Rule};

impl TrainBuild {
    pub fn new(task: &TrainTask, layout: &std::sync::Arc<TrainLayout>, network: &Network, interval: usize) -> Self {
        Self {
            task: task.clone(),
            layout: layout.clone(),
            widths: network.stages().iter().map(|stage| stage.out_features).collect(),
            tapes: Vec::new(),
            products: std::collections::BTreeMap::new(),
            loop_tape: None,
            step_gradients: None,
            memories: std::collections::BTreeMap::new(),
            shares: std::collections::BTreeMap::new(),
            norms: std::collections::BTreeMap::new(),
            dropped: None,
            gradients: vec![None; network.stages().len()],
            kept: std::collections::BTreeMap::new(),
            interval,
            zoneout: crate::network::Zoneout::default(),
            shared: std::collections::BTreeMap::new(),
            parts: crate::plan::train::TrainParts::default(),
        }
    }
}

impl Builder {
    pub(super) fn update(&mut self, network: &Network, task: &TrainTask) -> Result<()> {
        self.put_back_weights()?;
        let Some(TrainBuild { layout, .. }) = &self.training else { return Ok(()) };
        let layout = layout.clone();
        let buffers = &layout.buffers;
        let stage = self.plan.stages.len() - 1;
        let whole = |builder: &Self, buffer| builder.plan.whole(buffer);
        let [tensors, pieces] = layout.counts;
        let workgroup = || Constants::default().with("WORKGROUP", ROW_WORKGROUP);
        let of_kernel = |kernel| Dispatch { stage, constants: workgroup(), ..Dispatch::empty(Kernel::Train(kernel)) };
        let [gradients, squares] = [buffers.gradients, buffers.squares].map(|buffer| whole(self, buffer));
        // There are none where all is frozen.
        if pieces > 0 {
            let [_, x, y] = grid(&self.limits, 1, pieces as u64, "pieces of the gradients")?;
            self.add(Dispatch {
                rows: self.number(pieces, "pieces of the gradients")?,
                bindings: vec![gradients, whole(self, buffers.pieces), squares],
                workgroups: [x, y, 1],
                iterations: 64 + 64,
                work: layout.flat.len as u64,
                ..of_kernel(TrainKernel::SquareSums)
            })?;
        }
        let [settings, norms] = [buffers.settings, buffers.norms].map(|buffer| whole(self, buffer));
        let [first, results] = [buffers.first_pieces, buffers.results].map(|buffer| whole(self, buffer));
        self.add(Dispatch {
            sizes: vec![
                ("tensors", self.number(tensors, "tensors")?),
                ("pieces", self.number(pieces, "pieces of the gradients")?),
            ],
            bindings: vec![squares, first, settings, norms, results],
            iterations: 2 * pieces as u64 + 64,
            work: pieces as u64,
            ..of_kernel(TrainKernel::Norms)
        })?;
        if task.average.is_some_and(|(_, from_before)| from_before) {
            self.average(task, true)?;
        }
        let [parameters, moments] = [buffers.parameters, buffers.moments].map(|buffer| whole(self, buffer));
        let [corrections, segments] = [buffers.corrections, buffers.segments].map(|buffer| whole(self, buffer));
        self.add(Dispatch {
            constants: optimizer(&task.optimizer, &layout)?,
            bindings: vec![settings, corrections, segments, gradients, norms, parameters, moments],
            workgroups: flat_grid(&self.limits, layout.flat.len as u64, "parameters")?,
            work: layout.flat.len as u64,
            ..of_kernel(TrainKernel::Optimizer)
        })?;
        self.bound_rows(task)?;
        if task.average.is_some_and(|(_, from_before)| !from_before) {
            self.average(task, true)?;
        }
        self.average(task, false)?;
        self.follow_statistics(network, task)?;
        self.repack(stage)
    }

    /// Writes every packed weight anew.
    pub(super) fn repack(&mut self, stage: usize) -> Result<()> {
        let Some(TrainBuild { layout, .. }) = &self.training else { return Ok(()) };
        let layout = layout.clone();
        let parameters = self.plan.whole(layout.buffers.parameters);
        for (weight, (map, [count, sources])) in layout.buffers.maps.iter().zip(&layout.packed).enumerate() {
            let Some(map) = *map else { continue };
            self.add(Dispatch {
                stage,
                sizes: vec![
                    ("count", self.number(*count, "packed weights")?),
                    ("sources", self.number(*sources, "packed weights")?),
                ],
                constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
                bindings: vec![parameters, self.plan.whole(map), self.plan.whole(weight)],
                workgroups: flat_grid(&self.limits, *count as u64, "packed weights")?,
                work: *count as u64,
                ..Dispatch::empty(Kernel::Train(TrainKernel::Repack))
            })?;
        }
        Ok(())
    }
}

/// The constants of an optimizer, as `shaders/training/optimizer.wgsl` names and numbers them.
fn optimizer(optimizer: &Optimizer, layout: &TrainLayout) -> Result<Constants> {
    #[expect(clippy::cast_possible_truncation, reason = "rounded once, as the reference does")]
    let narrow = |x: f64| x as f32;
    let (betas, eps, [nesterov, centered]) = match optimizer.rule {
        Rule::Sgd(sgd) => ([sgd.momentum, 0.0], 0.0, [sgd.nesterov, false]),
        Rule::Adam(adam) => ([adam.beta1, adam.beta2], adam.eps, [false; 2]),
        Rule::RmsProp(rms) => ([rms.momentum, rms.rho], rms.eps, [false, rms.centered]),
        Rule::Adagrad(adagrad) => ([0.0; 2], adagrad.eps, [false; 2]),
    };
    let (clip, max, clip_keras) = match optimizer.clip {
        None => (0u32, 0.0, false),
        Some(Clip::GlobalNorm { max, convention }) => (1, max, convention == Convention::Keras),
        Some(Clip::Norm { max, convention }) => (2, max, convention == Convention::Keras),
        Some(Clip::Value { max }) => (3, max, false),
    };
    let [keeps_m, keeps_v, _] = optimizer.rule.keeps();
    let count = layout.flat.len;
    let v_first = if keeps_m { count } else { 0 };
    let mean_first = if keeps_v { v_first + count } else { v_first };
    let sizes = Constants::sizes([
        ("COUNT", count),
        ("V_FIRST", v_first),
        ("MEAN_FIRST", mean_first),
        ("CORRECTIONS", layout.corrections),
    ])?;
    let [beta1, beta2] = betas;
    Ok(sizes
        .with("RULE", rule_number(*optimizer))
        .with("KERAS", is_keras(optimizer.rule))
        .with("BETA1", narrow(beta1))
        .with("NEW1", narrow(1.0 - beta1))
        .with("BETA2", narrow(beta2))
        .with("NEW2", narrow(1.0 - beta2))
        .with("OPTIMIZER_EPS", narrow(eps))
        .with("NESTEROV", nesterov)
        .with("CENTERED", centered)
        .with("WEIGHT_DECAY", narrow(optimizer.weight_decay))
        .with("L2", narrow(optimizer.l2))
        .with("CLIP", clip)
        .with("CLIP_KERAS", clip_keras)
        .with("CLIP_MAX", narrow(max))
        .with("WORKGROUP", ROW_WORKGROUP))
}

/// The number of a rule in `shaders/training/optimizer.wgsl`.
pub fn rule_number(optimizer: Optimizer) -> u32 {
    match optimizer.rule {
        Rule::Sgd(_) => 0,
        Rule::Adam(_) => 1,
        Rule::RmsProp(_) => 2,
        Rule::Adagrad(_) => 3,
    }
}
