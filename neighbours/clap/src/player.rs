//! A network with its state, in the audio thread.

use std::error::Error;
use std::path::Path;

use gatefold::formats::amp;
use gatefold::{Device, Input, Output, Session, State};

/// A network with its state, and memory for frames of any length up to the longest.
pub struct Player {
    session: Session,
    /// The last frame's output with the state after it, and memory for the next.
    outputs: [Output; 2],
    start: State,
}

impl Player {
    /// Loads a model and takes all memory that frames of up to `most` samples need.
    pub fn load(path: &Path, sample_rate: f64, most: usize) -> Result<Self, Box<dyn Error>> {
        let amp = amp::load(path)?;
        if let Some(wanted) = amp.sample_rate.filter(|&wanted| wanted != sample_rate) {
            return Err(format!("{}: expected {wanted} Hz, got {sample_rate} Hz", path.display()).into());
        }
        let (inputs, outputs) = (amp.network.inputs()[0].width, amp.network.output_size());
        if [inputs, outputs] != [1, 1] {
            return Err(format!(
                "{}: expected a model of 1 input and 1 output, got {inputs} and {outputs}",
                path.display()
            )
            .into());
        }
        let session = Session::new(&Device::cpu(), &amp.network)?;
        let mut samples = vec![0.0; most.max(1)];
        let first = session.run(Input::features(&samples, shape(&session, samples.len())), None)?;
        let start = State::initial(&amp.network, 1)?;
        let mut player = Self { session, outputs: [first.clone(), first], start };
        for _ in 0..4 {
            player.play(&mut samples)?;
        }
        player.reset();
        Ok(player)
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        let state = &mut self.outputs[0].state;
        for (to, from) in state.layers.iter_mut().zip(&self.start.layers) {
            for (to, from) in to.parts.iter_mut().zip(&from.parts) {
                to.data.copy_from_slice(&from.data);
            }
        }
    }

    /// Replaces samples by what the amplifier makes of them.
    pub fn play(&mut self, samples: &mut [f32]) -> gatefold::Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        let [last, next] = &mut self.outputs;
        let frame = Input::features(samples, shape(&self.session, samples.len()));
        self.session.run_into(frame, Some(&last.state), next)?;
        samples.copy_from_slice(&next.values);
        self.outputs.swap(0, 1);
        Ok(())
    }
}

/// The shape of a frame, `[B, T, 1]` or `[T, B, 1]`.
fn shape(session: &Session, steps: usize) -> [usize; 3] {
    if session.network().batch_first() { [1, steps, 1] } else { [steps, 1, 1] }
}
