//! Layers to stages: their order, their widths, and a check that consecutive layers fit together.

use std::collections::BTreeMap;

use super::stage::{Direction, RecurrentStage, Source, Stage, StageKind, Window};
use super::{
    Activation, Cell, INPUT, Join, JoinSpec, LayerSpec, MergeMode, NetworkSpec, Recurrence, RecurrentOutput,
    RecurrentSpec, Zoneout, params,
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
    mask_reaches: bool,
}

struct Lowering {
    stages: Vec<Stage>,
    /// Outputs by the names of their layers.
    named: BTreeMap<String, LayerOutput>,
    flow: LayerOutput,
    recurrent_layers: usize,
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
pub(super) fn stages(spec: &NetworkSpec) -> Result<Vec<Stage>> {
    let tokens = matches!(spec.layers.first(), Some(LayerSpec::Embedding(_)));
    let input = LayerOutput { source: Source::Input, width: None, tokens, sequence: true, mask_reaches: true };
    let named = BTreeMap::from([(INPUT.to_owned(), input)]);
    let mut lowering = Lowering { stages: Vec::new(), named, flow: input, recurrent_layers: 0 };
    for (index, layer) in spec.layers.iter().enumerate() {
        let first = lowering.stages.len();
        lowering.layer(index, layer)?;
        for (stage, params) in lowering.stages[first..].iter_mut().zip(params::of_layer(layer)) {
            stage.params = params;
        }
        if !layer.name().is_empty() {
            lowering.named.insert(layer.name().to_owned(), lowering.flow);
        }
    }
    if lowering.stages.is_empty() || matches!(spec.layers.last(), Some(LayerSpec::From(_))) {
        return Err(Error::network("network", "last layer", "one that computes something", &"none"));
    }
    Ok(lowering.stages)
}

impl Lowering {
    fn layer(&mut self, index: usize, layer: &LayerSpec) -> Result<()> {
        match layer {
            LayerSpec::Input(_) if index > 0 => {
                Err(Error::network("input", "position", "the first layer", &"a later one"))
            }
            LayerSpec::Input(i) => self.fits(i.input_size, "input", "input_size"),
            LayerSpec::Embedding(e) => {
                if index > 0 {
                    return Err(Error::network(&e.name, "position", "the first layer", &"a later one"));
                }
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
            LayerSpec::Masking(m) if !self.stages.is_empty() || self.flow.source != Source::Input => {
                Err(Error::network(&m.name, "position", "the first layer", &"a later one"))
            }
            // The mask is made where the input comes in.
            LayerSpec::Masking(_) => Ok(()),
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
                self.rowwise("softmax", StageKind::Softmax, width)
            }
            LayerSpec::From(f) => {
                self.flow = self.find(&f.layer, "from")?;
                Ok(())
            }
            LayerSpec::Join(j) => self.join(j),
            _ => match layer.recurrent() {
                Some((cell, spec)) => self.recurrent(cell, spec),
                None => Err(Error::network(layer.name(), "type", "a layer with stages", &"one without")),
            },
        }
    }

    fn recurrent(&mut self, cell: Cell, spec: &RecurrentSpec) -> Result<()> {
        self.fits(spec.input_size, &spec.name, "input_size")?;
        self.sequence(&spec.name)?;
        let functions = cell.default_activations().len();
        let last = spec.output == RecurrentOutput::Last;
        for level in 0..spec.num_layers {
            let directions = (0..spec.directions()).map(|direction| Direction {
                reverse: spec.reverse || direction == 1,
                activations: match spec.activations.len() {
                    0 => cell.default_activations().to_vec(),
                    one if one == functions => spec.activations.clone(),
                    _ => spec.activations[direction * functions..][..functions].to_vec(),
                },
            });
            let kind = StageKind::Recurrent(RecurrentStage {
                layer: self.recurrent_layers,
                recurrence: Recurrence::new(cell, spec),
                level,
                hidden_size: spec.hidden_size,
                directions: directions.collect(),
                masked_output: spec.masked_output,
                clip: spec.clip,
                zoneout: Zoneout { h: spec.zoneout_h, c: spec.zoneout_c },
            });
            let change = Change {
                kind,
                in_features: if level == 0 { spec.input_size } else { spec.level_size() },
                out_features: spec.level_size(),
                sequence_out: level + 1 < spec.num_layers || !last,
                keeps_time: true,
            };
            self.push(&format!("{}.l{level}", spec.name), change);
        }
        self.recurrent_layers += 1;
        if spec.merge_mode != MergeMode::Concat {
            let kind = StageKind::Merge(spec.merge_mode);
            self.rowwise(&format!("{}.merge", spec.name), kind, spec.output_size())?;
        }
        Ok(())
    }

    fn join(&mut self, spec: &JoinSpec) -> Result<()> {
        let flows = spec.inputs.iter().map(|name| self.find(name, &spec.name)).collect::<Result<Vec<_>>>()?;
        let mut widths = Vec::with_capacity(flows.len());
        for (flow, name) in flows.iter().zip(&spec.inputs) {
            let Some(width) = flow.width.filter(|_| !flow.tokens) else {
                return Err(Error::network(&spec.name, "inputs", "layers with vectors", name));
            };
            if flow.sequence != flows[0].sequence {
                return Err(Error::network(&spec.name, "inputs", "all with a time dimension or all without", name));
            }
            widths.push(width);
        }
        if spec.join != Join::Concat && widths.iter().any(|&width| width != widths[0]) {
            return Err(Error::network(&spec.name, "inputs", "layers of one width", &format!("{widths:?}")));
        }
        let out_features = if spec.join == Join::Concat { widths.iter().sum() } else { widths[0] };
        let mask_reaches = flows.iter().any(|flow| flow.mask_reaches);
        let sequence = flows[0].sequence;
        self.stages.push(Stage {
            label: spec.name.clone(),
            kind: StageKind::Join(spec.join),
            params: Vec::new(),
            inputs: flows.iter().map(|flow| flow.source).collect(),
            in_features: widths[0],
            out_features,
            sequence_in: sequence,
            sequence_out: sequence,
            mask_reaches,
        });
        let source = Source::Stage(self.stages.len() - 1);
        self.flow = LayerOutput { source, width: Some(out_features), tokens: false, sequence, mask_reaches };
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
        let Change { kind, in_features, out_features, sequence_out, keeps_time } = change;
        let mask_reaches = self.flow.mask_reaches;
        self.stages.push(Stage {
            label: label.to_owned(),
            kind,
            params: Vec::new(),
            inputs: vec![self.flow.source],
            in_features,
            out_features,
            sequence_in: self.flow.sequence,
            sequence_out,
            mask_reaches,
        });
        self.flow = LayerOutput {
            source: Source::Stage(self.stages.len() - 1),
            width: Some(out_features),
            tokens: false,
            sequence: sequence_out,
            mask_reaches: mask_reaches && keeps_time,
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
                self.named.insert(INPUT.to_owned(), self.flow);
                Ok(())
            }
            Some(got) if got == width => Ok(()),
            Some(got) => Err(Error::network(layer, option, format!("{got}, the width of its input"), &width)),
        }
    }
}
