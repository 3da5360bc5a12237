//! Layers with a memory.

use super::{Change, Lowering};
use crate::base::error::Result;
use crate::network::stage::StageKind;
use crate::network::{NtmSpec, RecurrentOutput};

impl Lowering {
    pub(super) fn ntm(&mut self, spec: &NtmSpec) -> Result<()> {
        self.fits(spec.input_size, &spec.name, "input_size")?;
        self.sequence(&spec.name)?;
        let change = Change {
            kind: StageKind::Ntm(Box::new(spec.stage(self.recurrent.len()))),
            in_features: spec.input_size,
            out_features: spec.output_size(),
            sequence_out: spec.output == RecurrentOutput::Sequence,
            keeps_time: true,
        };
        self.recurrent.push((self.stages.len(), spec.cell, spec.controller()));
        self.push(&spec.name, change);
        Ok(())
    }
}
