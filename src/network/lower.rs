//! Layers to stages: their order, their widths, and a check that consecutive layers fit together.

mod feedback;
mod joins;
mod ntm;
mod recurrent;

use std::collections::BTreeMap;

use super::input::{InputKind, InputSpec, NetworkInput, NetworkOutput};
use super::stage::{MaskReach, Source, Stage, StageKind, Window};
use super::{
    Activation, Cell, EmbeddingSpec, INPUT, LayerSpec, MAX_DIMENSION, MAX_INPUTS, MaskRule, NetworkSpec, Rearrange,
    RecurrentSpec, RepeatSpec, ReshapeSpec, params,
};
use crate::base::error::{Error, Result};

/// What flows between two layers.
#[derive(Clone, Copy)]
struct LayerOutput {
    source: Source,
    /// Width of its vectors; not known before the first layer that determines it.
    width: Option<usize>,
    tokens: bool,
    sequence: bool,
    mask_reach: MaskReach,
}

struct Lowering {
    stages: Vec<Stage>,
    /// Outputs by the names of their layers.
    named: BTreeMap<String, LayerOutput>,
    flow: LayerOutput,
    inputs: Vec<NetworkInput>,
    outputs: Vec<NetworkOutput>,
    /// The recurrent layers and those with a memory in order, each with the first of its stages.
    recurrent: Vec<(usize, Cell, RecurrentSpec)>,
    /// Which steps each input masks, once it is known.
    masks: Vec<Option<MaskRule>>,
}

/// What a description is broken down to.
pub(super) struct LoweredNetwork {
    pub stages: Vec<Stage>,
    pub inputs: Vec<NetworkInput>,
    pub outputs: Vec<NetworkOutput>,
}

/// What a layer makes of its input.
struct Change {
    kind: StageKind,
    in_features: usize,
    out_features: usize,
    sequence_out: bool,
    keeps_time: bool,
}

/// Breaks `spec` down and checks that neighbours fit.
pub(super) fn lowered(spec: &NetworkSpec) -> Result<LoweredNetwork> {
    let first = lowered_with(spec, &[])?;
    // An embedding that masks may come after one of the same input that does not.
    let masks: Vec<Option<MaskRule>> = first.inputs.iter().map(|input| input.masks).collect();
    if masks.contains(&Some(MaskRule::TokenZero)) { lowered_with(spec, &masks) } else { Ok(first) }
}

/// As [`lowered`], where it is known which steps the inputs mask.
fn lowered_with(spec: &NetworkSpec, masks: &[Option<MaskRule>]) -> Result<LoweredNetwork> {
    let kind = match spec.layers.first() {
        Some(LayerSpec::Embedding(_)) => InputKind::Tokens,
        Some(LayerSpec::Input(input)) => input.kind,
        _ => InputKind::Sequence,
    };
    let flow = LayerOutput {
        source: Source::Input(0),
        width: None,
        tokens: kind == InputKind::Tokens,
        sequence: kind != InputKind::Row,
        mask_reach: if kind == InputKind::Row { MaskReach::Ended } else { MaskReach::Fits(0) },
    };
    let named = BTreeMap::from([(INPUT.to_owned(), flow)]);
    let inputs = vec![NetworkInput { name: INPUT.into(), kind, width: 1, num_embeddings: None, masks: None }];
    let (stages, outputs, recurrent) = (Vec::new(), Vec::new(), Vec::new());
    let mut lowering = Lowering { stages, named, flow, inputs, outputs, recurrent, masks: masks.to_vec() };
    for (index, layer) in spec.layers.iter().enumerate() {
        let first = lowering.stages.len();
        lowering.layer(index, layer)?;
        for (stage, params) in lowering.stages[first..].iter_mut().zip(params::of_layer(layer)) {
            stage.params = params;
        }
        if !layer.name().is_empty() && !matches!(layer, LayerSpec::Output(_)) {
            lowering.named.insert(layer.name().to_owned(), lowering.flow);
        }
    }
    lowering.feed_back(spec)?;
    let Lowering { stages, flow, inputs, outputs, .. } = lowering;
    if stages.is_empty() || flow.source != Source::Stage(stages.len() - 1) {
        return Err(Error::network("network", "last layer", "one that computes something", &"none"));
    }
    Ok(LoweredNetwork { stages, inputs, outputs })
}

impl Lowering {
    fn layer(&mut self, index: usize, layer: &LayerSpec) -> Result<()> {
        match layer {
            LayerSpec::Input(i) => self.input(index, i),
            LayerSpec::Output(o) => {
                let Source::Stage(stage) = self.flow.source else {
                    return Err(Error::network(
                        &o.name,
                        "position",
                        "after a layer that computes something",
                        &"before",
                    ));
                };
                self.outputs.push(NetworkOutput { name: o.name.clone(), stage });
                Ok(())
            }
            LayerSpec::FinalState(f) => self.final_state(f),
            LayerSpec::Embedding(e) => {
                let Source::Input(number) = self.flow.source else {
                    let expected = "an input of the network";
                    return Err(Error::network(&e.name, "input", expected, &"the output of a layer"));
                };
                if !self.flow.tokens {
                    return Err(Error::network(&e.name, "input", "token ids", &"vectors"));
                }
                self.embedded(number, e);
                let change = Change {
                    kind: StageKind::Embedding { num_embeddings: e.num_embeddings },
                    in_features: 1,
                    out_features: e.embedding_dim,
                    sequence_out: true,
                    keeps_time: true,
                };
                self.push(&e.name, change);
                Ok(())
            }
            // The mask is made where the input comes in.
            LayerSpec::Masking(m) => match self.flow.source {
                Source::Input(number) if self.is_unread(number) && !self.flow.tokens => {
                    self.inputs[number].masks = Some(MaskRule::Value(m.mask_value));
                    Ok(())
                }
                _ => {
                    let expected = "before all layers that read its input of vectors";
                    Err(Error::network(&m.name, "position", expected, &"a later one"))
                }
            },
            LayerSpec::Dense(d) => {
                self.fits(d.in_features, &d.name, "in_features")?;
                self.rowwise(&d.name, StageKind::Dense { activation: d.activation }, d.out_features)
            }
            LayerSpec::Conv1d(c) => {
                self.fits(c.in_channels, &c.name, "in_channels")?;
                self.sequence(&c.name)?;
                let (groups, activation) = (c.groups, c.activation);
                let (kernel_size, stride, dilation, padding) = (c.kernel_size, c.stride, c.dilation, c.padding);
                let window = Window { kernel_size, stride, dilation, padding };
                let kind = StageKind::Conv1d { window, groups, activation };
                let change = Change {
                    kind,
                    in_features: c.in_channels,
                    out_features: c.out_channels,
                    sequence_out: true,
                    keeps_time: false,
                };
                self.push(&c.name, change);
                Ok(())
            }
            LayerSpec::Pool1d(p) => {
                let (kernel_size, stride, padding) = (p.kernel_size, p.stride, p.padding);
                let window = Window { kernel_size, stride, dilation: 1, padding };
                let kind = StageKind::Pool1d { window, pool: p.pool, count_include_pad: p.count_include_pad };
                self.over_time(&p.name, kind, true, false)
            }
            LayerSpec::GlobalPool(p) => self.over_time(&p.name, StageKind::GlobalPool(p.pool), false, true),
            LayerSpec::Select(s) => self.over_time(&s.name, StageKind::Select(s.step), false, true),
            LayerSpec::Reverse(r) => self.over_time(&r.name, StageKind::Reverse, true, true),
            LayerSpec::LayerNorm(n) => {
                self.fits(n.num_features, &n.name, "num_features")?;
                self.rowwise(&n.name, StageKind::LayerNorm { eps: n.eps }, n.num_features)
            }
            LayerSpec::BatchNorm(n) => {
                self.fits(n.num_features, &n.name, "num_features")?;
                let kind = StageKind::Channelwise { activation: Activation::Linear, eps: Some(n.eps) };
                self.rowwise(&n.name, kind, n.num_features)
            }
            LayerSpec::Activation(a) => {
                let width = self.width(&a.name)?;
                self.rowwise(&a.name, StageKind::Channelwise { activation: a.activation, eps: None }, width)
            }
            LayerSpec::Softmax => {
                let width = self.width("softmax")?;
                self.rowwise("softmax", StageKind::Softmax { log: false }, width)
            }
            LayerSpec::LogSoftmax(s) => {
                let width = self.width(&s.name)?;
                self.rowwise(&s.name, StageKind::Softmax { log: true }, width)
            }
            LayerSpec::ArgMax(s) => self.rowwise(&s.name, StageKind::ArgMax, 1),
            LayerSpec::TimeSoftmax(s) => self.over_time(&s.name, StageKind::TimeSoftmax, true, true),
            LayerSpec::Unmask(_) => {
                self.flow.mask_reach = MaskReach::Ended;
                Ok(())
            }
            LayerSpec::Repeat(r) => self.repeat(r),
            LayerSpec::Reshape(r) => self.reshape(r),
            LayerSpec::Transpose(t) => {
                let features = self.width(&t.name)?;
                self.sequence(&t.name)?;
                let change = Change {
                    kind: StageKind::Rearrange(Rearrange::Transpose { steps: t.steps, features }),
                    in_features: features,
                    out_features: t.steps,
                    sequence_out: true,
                    keeps_time: false,
                };
                self.push(&t.name, change);
                Ok(())
            }
            LayerSpec::Slice(s) => {
                let (start, end, step) = (s.start, s.end, s.step);
                self.over_time(&s.name, StageKind::Rearrange(Rearrange::Slice { start, end, step }), true, false)
            }
            LayerSpec::Pad(p) => {
                let (left, right, mode) = (p.left, p.right, p.mode);
                self.over_time(&p.name, StageKind::Rearrange(Rearrange::Pad { left, right, mode }), true, false)
            }
            LayerSpec::Channels(c) => {
                let width = self.width(&c.name)?;
                if c.start.checked_add(c.count).is_none_or(|end| end > width) {
                    let got = format!("{} from {}", c.count, c.start);
                    return Err(Error::network(&c.name, "count", format!("features of the {width} there are"), &got));
                }
                self.rowwise(&c.name, StageKind::Rearrange(Rearrange::Channels { start: c.start }), c.count)
            }
            LayerSpec::From(f) => {
                self.flow = self.find(&f.layer, "from")?;
                Ok(())
            }
            LayerSpec::Join(j) => self.join(j),
            LayerSpec::Attention(a) => self.attention(a),
            LayerSpec::Feedback(f) => self.feedback(f),
            LayerSpec::Ntm(n) => self.ntm(n),
            _ => match layer.recurrent() {
                Some((cell, spec)) => self.recurrent(cell, spec),
                None => Err(Error::network(layer.name(), "type", "a layer with stages", &"one without")),
            },
        }
    }

    fn input(&mut self, index: usize, spec: &InputSpec) -> Result<()> {
        if index == 0 {
            if !spec.name.is_empty() {
                self.named.remove(INPUT);
                self.inputs[0].name.clone_from(&spec.name);
            }
        } else {
            if spec.name.is_empty() {
                return Err(Error::network("input", "name", "a name, since it is not the first layer", &"none"));
            }
            let number = self.inputs.len();
            if number == MAX_INPUTS {
                let expected = format!("at most {MAX_INPUTS}");
                return Err(Error::network(&spec.name, "number of inputs", expected, &(number + 1)));
            }
            let sequence = spec.kind != InputKind::Row;
            self.flow = LayerOutput {
                source: Source::Input(number),
                width: None,
                tokens: spec.kind == InputKind::Tokens,
                sequence,
                mask_reach: if sequence { MaskReach::Fits(number) } else { MaskReach::Ended },
            };
            let (name, kind) = (spec.name.clone(), spec.kind);
            self.inputs.push(NetworkInput { name, kind, width: 1, num_embeddings: None, masks: None });
        }
        if spec.kind == InputKind::Tokens { Ok(()) } else { self.fits(spec.input_size, &spec.name, "input_size") }
    }

    /// Whether no stage reads an input of the network yet.
    fn is_unread(&self, number: usize) -> bool {
        self.stages.iter().all(|stage| !stage.inputs.contains(&Source::Input(number)))
    }

    /// Notes that an embedding reads an input of the network.
    fn embedded(&mut self, number: usize, spec: &EmbeddingSpec) {
        if !spec.mask_zero && self.masks.get(number) == Some(&Some(MaskRule::TokenZero)) {
            // Another embedding of these tokens has a mask, this one has none.
            self.flow.mask_reach = MaskReach::Ended;
        }
        let input = &mut self.inputs[number];
        if spec.mask_zero {
            input.masks = Some(MaskRule::TokenZero);
        }
        let most = input.num_embeddings.unwrap_or(usize::MAX);
        input.num_embeddings = Some(most.min(spec.num_embeddings));
    }

    fn repeat(&mut self, spec: &RepeatSpec) -> Result<()> {
        let width = self.width(&spec.name)?;
        if self.flow.sequence {
            let expected = "one vector per row [B, N]";
            return Err(Error::network(&spec.name, "input", expected, &"a sequence [T, B, N]"));
        }
        let kind = StageKind::Rearrange(Rearrange::Repeat { times: spec.times });
        self.push(
            &spec.name,
            Change { kind, in_features: width, out_features: width, sequence_out: true, keeps_time: true },
        );
        self.flow.mask_reach = MaskReach::Ended;
        Ok(())
    }

    fn reshape(&mut self, spec: &ReshapeSpec) -> Result<()> {
        let width = self.width(&spec.name)?;
        if spec.in_steps.is_some() != self.flow.sequence {
            let expected =
                if self.flow.sequence { "the input's number of timesteps" } else { "none for a vector per row" };
            let got = spec.in_steps.map_or("none".to_owned(), |steps| steps.to_string());
            return Err(Error::network(&spec.name, "in_steps", expected, &got));
        }
        let (in_steps, out_steps) = (spec.in_steps.unwrap_or(1), spec.out_steps.unwrap_or(1));
        let numbers = in_steps.saturating_mul(width);
        if !numbers.is_multiple_of(out_steps) || numbers / out_steps > MAX_DIMENSION {
            let expected =
                format!("a divisor of the {numbers} numbers of a row, at most {MAX_DIMENSION} to a timestep");
            return Err(Error::network(&spec.name, "out_steps", expected, &out_steps));
        }
        let change = Change {
            kind: StageKind::Rearrange(Rearrange::Reshape { in_steps, out_steps }),
            in_features: width,
            out_features: numbers / out_steps,
            sequence_out: spec.out_steps.is_some(),
            keeps_time: false,
        };
        let was_sequence = self.flow.sequence;
        self.push(&spec.name, change);
        if !was_sequence {
            self.flow.mask_reach = MaskReach::Ended;
        }
        Ok(())
    }

    /// A layer that treats every row alike.
    fn rowwise(&mut self, label: &str, kind: StageKind, out_features: usize) -> Result<()> {
        let (in_features, sequence_out) = (self.width(label)?, self.flow.sequence);
        self.push(label, Change { kind, in_features, out_features, sequence_out, keeps_time: true });
        Ok(())
    }

    /// A layer that treats every channel alike, over time.
    fn over_time(&mut self, label: &str, kind: StageKind, sequence_out: bool, keeps_time: bool) -> Result<()> {
        let width = self.width(label)?;
        self.sequence(label)?;
        self.push(label, Change { kind, in_features: width, out_features: width, sequence_out, keeps_time });
        Ok(())
    }

    fn push(&mut self, label: &str, change: Change) {
        self.push_reading(label, change, vec![self.flow.source]);
    }

    /// As [`Lowering::push`] of a stage with these inputs, the first of which is as the flow says.
    fn push_reading(&mut self, label: &str, change: Change, inputs: Vec<Source>) {
        let Change { kind, in_features, out_features, sequence_out, keeps_time } = change;
        let mask_reach = self.flow.mask_reach;
        self.stages.push(Stage {
            label: label.to_owned(),
            kind,
            params: Vec::new(),
            inputs,
            in_features,
            out_features,
            sequence_in: self.flow.sequence,
            sequence_out,
            mask_reach,
        });
        self.flow = LayerOutput {
            source: Source::Stage(self.stages.len() - 1),
            width: Some(out_features),
            tokens: false,
            sequence: sequence_out,
            mask_reach: if keeps_time || mask_reach == MaskReach::Ended { mask_reach } else { MaskReach::Resized },
        };
    }

    fn find(&self, name: &str, layer: &str) -> Result<LayerOutput> {
        let known = || self.named.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.named
            .get(name)
            .copied()
            .ok_or_else(|| Error::network(layer, "input", format!("an earlier layer ({})", known()), &name))
    }

    fn width(&self, layer: &str) -> Result<usize> {
        match self.flow.width {
            Some(width) if !self.flow.tokens => Ok(width),
            Some(_) => Err(Error::network(layer, "input", "vectors", &"token ids")),
            None => Err(Error::network(layer, "position", "after a layer with a width", &"the first layer")),
        }
    }

    fn sequence(&self, layer: &str) -> Result<()> {
        if self.flow.sequence {
            return Ok(());
        }
        Err(Error::network(layer, "input", "a sequence [T, B, I]", &"one vector per row [B, I]"))
    }

    /// Checks that what flows in is `width` wide; a network's input takes the width of its first reader.
    fn fits(&mut self, width: usize, layer: &str, option: &str) -> Result<()> {
        if self.flow.tokens {
            return Err(Error::network(layer, "input", "vectors", &"token ids"));
        }
        match self.flow.width {
            None => {
                self.flow.width = Some(width);
                if let Source::Input(number) = self.flow.source {
                    let input = &mut self.inputs[number];
                    input.width = width;
                    self.named.insert(input.name.clone(), self.flow);
                }
                Ok(())
            }
            Some(got) if got == width => Ok(()),
            Some(got) => Err(Error::network(layer, option, format!("{got}, the width of its input"), &width)),
        }
    }
}
