//! Recurrent layers, what they start from, and their states.

use super::{Change, LayerOutput, Lowering};
use crate::base::error::{Error, Result};
use crate::network::stage::{Direction, FinalState, RecurrentStage, Source, StageKind};
use crate::network::{
    Cell, FinalStateSpec, HiddenOrCell, MergeMode, Recurrence, RecurrentOutput, RecurrentSpec, Zoneout,
};

impl Lowering {
    pub(super) fn recurrent(&mut self, cell: Cell, spec: &RecurrentSpec) -> Result<()> {
        self.fits(spec.input_size, &spec.name, "input_size")?;
        self.sequence(&spec.name)?;
        let functions = cell.default_activations().len();
        let last = spec.output == RecurrentOutput::Last;
        let [h, c] = self.initial(cell, spec)?;
        let first = self.stages.len();
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
                layer: self.recurrent.len(),
                recurrence: Recurrence::new(cell, spec),
                level,
                hidden_size: spec.hidden_size,
                directions: directions.collect(),
                masked_output: spec.masked_output,
                clip: spec.clip,
                zoneout: Zoneout { h: spec.zoneout_h, c: spec.zoneout_c },
                starts: [h.map(|_| 1), c.map(|_| if h.is_some() { 2 } else { 1 })],
            });
            let change = Change {
                kind,
                in_features: if level == 0 { spec.input_size } else { spec.level_size() },
                out_features: spec.level_size(),
                sequence_out: level + 1 < spec.num_layers || !last,
                keeps_time: true,
            };
            let inputs = [Some(self.flow.source), h, c].into_iter().flatten().collect();
            self.push_reading(&format!("{}.l{level}", spec.name), change, inputs);
        }
        self.recurrent.push((first, cell, spec.clone()));
        if spec.merge_mode != MergeMode::Concat {
            let kind = StageKind::Merge(spec.merge_mode);
            self.rowwise(&format!("{}.merge", spec.name), kind, spec.output_size())?;
        }
        Ok(())
    }

    pub(super) fn final_state(&mut self, spec: &FinalStateSpec) -> Result<()> {
        let is_level = |first: usize| self.stages[first].recurrent().is_some();
        let found = self.recurrent.iter().position(|(first, _, layer)| layer.name == spec.layer && is_level(*first));
        let Some(layer) = found else {
            return Err(Error::network(&spec.name, "layer", "an earlier recurrent layer", &spec.layer));
        };
        let (first, cell, recurrent) = &self.recurrent[layer];
        let (levels, directions) = (recurrent.num_layers, recurrent.directions());
        let level = spec.level.unwrap_or(levels - 1);
        for (option, got, most) in [("level", level, levels), ("direction", spec.direction, directions)] {
            if got >= most {
                return Err(Error::network(&spec.name, option, format!("0 to {}", most - 1), &got));
            }
        }
        let width = match spec.part {
            HiddenOrCell::H => recurrent.state_size(),
            HiddenOrCell::C if cell.keeps_c() => recurrent.hidden_size,
            HiddenOrCell::C => return Err(Error::network(&spec.name, "part", "h, since the cell has no c", &"c")),
        };
        let stage = first + level;
        let read = &self.stages[stage];
        self.flow = LayerOutput {
            source: Source::Stage(stage),
            width: Some(read.out_features),
            tokens: false,
            sequence: read.sequence_out,
            mask_reach: read.mask_reach,
        };
        let (in_features, state) =
            (read.out_features, FinalState { layer, row: level * directions + spec.direction, part: spec.part });
        let change = Change {
            kind: StageKind::FinalState(state),
            in_features,
            out_features: width,
            sequence_out: false,
            keeps_time: true,
        };
        self.push(&spec.name, change);
        Ok(())
    }

    /// What gives h and c that a recurrent layer starts from, if layers do.
    fn initial(&self, cell: Cell, spec: &RecurrentSpec) -> Result<[Option<Source>; 2]> {
        let sizes = [spec.state_size(), if cell.keeps_c() { spec.hidden_size } else { 0 }];
        let parts = [("initial_h", &spec.initial_h, sizes[0]), ("initial_c", &spec.initial_c, sizes[1])];
        let mut sources = [None; 2];
        for (source, (option, name, width)) in sources.iter_mut().zip(parts) {
            let Some(name) = name else { continue };
            if width == 0 {
                return Err(Error::network(&spec.name, option, "none, since the cell has no c", name));
            }
            if spec.num_layers > 1 || spec.initial_state {
                let expected = "a layer of one level without a stored initial state";
                return Err(Error::network(&spec.name, option, expected, name));
            }
            let flow = self.find(name, &spec.name)?;
            let width = width * spec.directions();
            if flow.sequence || flow.tokens || flow.width != Some(width) {
                return Err(Error::network(&spec.name, option, format!("a layer that gives [B, {width}]"), name));
            }
            *source = Some(flow.source);
        }
        Ok(sources)
    }
}
