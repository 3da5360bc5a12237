//! A CLAP plug-in that plays the network of a guitar amplifier (`.nam`, RTNeural, AIDA-X, GuitarML) in a digital audio workstation.
//!
//! The model is a path in the plug-in's state, which the host saves with a project; a new instance takes it from the environment
//! variable `GATEFOLD_AMP_MODEL`. Without a model the signal passes unchanged. The audio thread allocates nothing.

mod params;
mod player;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clack_extensions::audio_ports::{
    AudioPortFlags, AudioPortInfo, AudioPortInfoWriter, AudioPortType, PluginAudioPorts, PluginAudioPortsImpl,
};
use clack_extensions::params::PluginParams;
use clack_extensions::state::{PluginState, PluginStateImpl};
use clack_plugin::plugin::features::{AUDIO_EFFECT, DISTORTION, MONO};
use clack_plugin::prelude::*;
use clack_plugin::stream::{InputStream, OutputStream};

use params::Gains;
use player::Player;

/// Names the model of a new instance.
pub const MODEL: &str = "GATEFOLD_AMP_MODEL";

/// The plug-in.
pub struct Amp;

impl Plugin for Amp {
    type AudioProcessor<'a> = Processor<'a>;
    type Shared<'a> = Shared;
    type MainThread<'a> = MainThread<'a>;

    fn declare_extensions(builder: &mut PluginExtensions<Self>, _: Option<&Shared>) {
        builder.register::<PluginAudioPorts>().register::<PluginParams>().register::<PluginState>();
    }
}

impl DefaultPluginFactory for Amp {
    fn get_descriptor() -> PluginDescriptor {
        PluginDescriptor::new("org.gatefold.amp", "gatefold amp")
            .with_vendor("gatefold")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_description("Plays networks of guitar amplifiers")
            .with_features([AUDIO_EFFECT, DISTORTION, MONO])
    }

    fn new_shared(_: HostSharedHandle<'_>) -> Result<Shared, PluginError> {
        let model = std::env::var_os(MODEL).map(PathBuf::from);
        Ok(Shared { model: Mutex::new(model), gains: Gains::default() })
    }

    fn new_main_thread<'a>(host: HostMainThreadHandle<'a>, shared: &'a Shared) -> Result<MainThread<'a>, PluginError> {
        Ok(MainThread { host, shared })
    }
}

/// What the threads of an instance share.
pub struct Shared {
    model: Mutex<Option<PathBuf>>,
    gains: Gains,
}

impl PluginShared<'_> for Shared {}

impl Shared {
    fn model(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the host asks for outside of the audio thread.
pub struct MainThread<'a> {
    host: HostMainThreadHandle<'a>,
    shared: &'a Shared,
}

impl<'a> PluginMainThread<'a, Shared> for MainThread<'a> {}

impl PluginAudioPortsImpl for MainThread<'_> {
    fn count(&self, _: bool) -> u32 {
        1
    }

    fn get(&self, index: u32, is_input: bool, writer: &mut AudioPortInfoWriter) {
        if index == 0 {
            writer.set(&AudioPortInfo {
                id: ClapId::new(0),
                name: if is_input { b"Guitar" } else { b"Amplifier" },
                channel_count: 1,
                flags: AudioPortFlags::IS_MAIN,
                port_type: Some(AudioPortType::MONO),
                in_place_pair: None,
            });
        }
    }
}

/// `{"model": "PATH", "input": 0.0, "output": 0.0}`, the gains in dB.
impl PluginStateImpl for MainThread<'_> {
    fn save(&self, output: &mut OutputStream) -> Result<(), PluginError> {
        let [input, gain] = self.shared.gains.decibels();
        let model = self.shared.model().as_ref().map(|path| path.to_string_lossy().into_owned());
        let state = serde_json::json!({ "model": model, "input": input, "output": gain });
        Ok(output.write_all(state.to_string().as_bytes())?)
    }

    fn load(&self, input: &mut InputStream) -> Result<(), PluginError> {
        let mut text = String::new();
        input.read_to_string(&mut text)?;
        let state: serde_json::Value = serde_json::from_str(&text)?;
        let model = state.get("model").and_then(serde_json::Value::as_str).map(PathBuf::from);
        let gain = |name: &str| {
            state.get(name).and_then(serde_json::Value::as_f64).filter(|gain| gain.is_finite()).unwrap_or(0.0)
        };
        self.shared.gains.set([gain("input"), gain("output")]);
        let before = std::mem::replace(&mut *self.shared.model(), model.clone());
        if before != model {
            // The network is loaded when the host activates the plug-in.
            self.host.shared().request_restart();
        }
        Ok(())
    }
}

/// What plays.
pub struct Processor<'a> {
    shared: &'a Shared,
    player: Option<Player>,
}

impl<'a> PluginAudioProcessor<'a, Shared, MainThread<'a>> for Processor<'a> {
    fn activate(
        _: HostAudioProcessorHandle<'a>,
        _: &MainThread<'a>,
        shared: &'a Shared,
        audio: PluginAudioConfiguration,
    ) -> Result<Self, PluginError> {
        let model = shared.model().clone();
        let player = model.map(|path| Player::load(&path, audio.sample_rate, audio.max_frames_count as usize));
        Ok(Self { shared, player: player.transpose().map_err(|error| PluginError::Error(error))? })
    }

    fn process(&mut self, _: Process, mut audio: Audio, events: Events) -> Result<ProcessStatus, PluginError> {
        for mut port in &mut audio {
            let Some(mut channels) = port.channels()?.into_f32() else {
                return Err(PluginError::Message("expected samples of 32 bits"));
            };
            // The port has one channel.
            let samples = match channels.channel_pair(0) {
                Some(ChannelPair::InputOutput(input, output)) => {
                    output.copy_from_slice(input);
                    output
                }
                Some(ChannelPair::InPlace(samples)) => samples,
                Some(ChannelPair::OutputOnly(samples)) => {
                    samples.fill(0.0);
                    samples
                }
                Some(ChannelPair::InputOnly(_)) | None => continue,
            };
            for batch in events.input.batch() {
                batch.events().for_each(|event| self.shared.gains.change(event));
                self.play(&mut samples[batch.sample_bounds()])?;
            }
        }
        Ok(ProcessStatus::Continue)
    }

    fn reset(&mut self) {
        if let Some(player) = &mut self.player {
            player.reset();
        }
    }
}

impl Processor<'_> {
    fn play(&mut self, samples: &mut [f32]) -> Result<(), PluginError> {
        let [input, output] = self.shared.gains.factors();
        samples.iter_mut().for_each(|sample| *sample *= input);
        if let Some(player) = &mut self.player {
            player.play(samples).map_err(|_| PluginError::Message("the network does not run"))?;
        }
        samples.iter_mut().for_each(|sample| *sample *= output);
        Ok(())
    }
}

clack_export_entry!(SinglePluginEntry<Amp>);
