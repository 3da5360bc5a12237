//! The plug-in in a host.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use clack_extensions::params::PluginParams;
use clack_extensions::state::PluginState;
use clack_host::events::event_types::ParamValueEvent;
use clack_host::prelude::*;
use clack_plugin::entry::SinglePluginEntry;
use gatefold::formats::amp;
use gatefold::{Device, Input, Session};
use gatefold_clap::Amp;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct HostShared;

impl SharedHandler<'_> for HostShared {
    fn request_restart(&self) {}
    fn request_process(&self) {}
    fn request_callback(&self) {}
}

struct Host;

impl HostHandlers for Host {
    type Shared<'a> = HostShared;
    type MainThread<'a> = ();
    type AudioProcessor<'a> = ();
}

const FRAMES: [usize; 5] = [64, 64, 17, 1, 64];

/// A `.nam` file of one level with H = 2.
fn model(folder: &Path) -> PathBuf {
    let weights: Vec<f32> = (0..4 * 2 * 4 + 4 + 2 + 1).map(|at| (at as f32 * 0.7).sin()).collect();
    let file = serde_json::json!({
        "version": "0.5.4", "architecture": "LSTM", "weights": weights, "sample_rate": 48000,
        "config": { "input_size": 1, "hidden_size": 2, "num_layers": 1 },
    });
    let path = folder.join("test.nam");
    std::fs::write(&path, file.to_string()).unwrap();
    path
}

fn instance() -> PluginInstance<Host> {
    let entry = PluginEntry::load_from_clack::<SinglePluginEntry<Amp>>(c"/gatefold.clap").unwrap();
    let info = HostInfo::new("test", "gatefold", "https://example.org", "1").unwrap();
    PluginInstance::new(|_| HostShared, |_| (), &entry, c"org.gatefold.amp", &info).unwrap()
}

fn load(instance: &mut PluginInstance<Host>, state: &str) -> bool {
    let mut plugin = instance.plugin_handle();
    let extension = plugin.get_extension::<PluginState>().unwrap();
    extension.load(&mut plugin, &mut Cursor::new(state.as_bytes())).is_ok()
}

fn configuration(sample_rate: f64) -> PluginAudioConfiguration {
    PluginAudioConfiguration { sample_rate, min_frames_count: 1, max_frames_count: 64 }
}

/// What the plug-in makes of `samples` in frames of several lengths, and the allocations of all frames but the first.
fn played(instance: &mut PluginInstance<Host>, samples: &[f32], output_gain: Option<f64>) -> (Vec<f32>, usize) {
    let mut processor = instance.activate(|_, ()| (), configuration(48000.0)).unwrap().start_processing().unwrap();
    let (mut inputs, mut outputs) = (AudioPorts::with_capacity(1, 1), AudioPorts::with_capacity(1, 1));
    let mut heard = vec![0.0; samples.len()];
    let changes: Vec<_> =
        output_gain.map(|gain| ParamValueEvent::new(0, ClapId::new(1), Pckn::match_all(), gain)).into_iter().collect();
    let (mut at, mut allocations) = (0, 0);
    for (frame, length) in FRAMES.into_iter().enumerate() {
        let mut input = [0.0; 64];
        input[..length].copy_from_slice(&samples[at..][..length]);
        let mut buffers = [&mut input[..length]];
        let input_audio = inputs.with_input_buffers([AudioPortBuffer {
            latency: 0,
            channels: AudioPortBufferType::f32_input_only(buffers.iter_mut().map(|b| InputChannel::variable(b))),
        }]);
        let mut to = [&mut heard[at..][..length]];
        let mut output_audio = outputs.with_output_buffers([AudioPortBuffer {
            latency: 0,
            channels: AudioPortBufferType::f32_output_only(to.iter_mut().map(|b| &mut **b)),
        }]);
        let events = InputEvents::from_buffer(&changes);
        let mut nothing = EventBuffer::new();
        let before = ALLOCATIONS.get();
        let mut sent = OutputEvents::from_buffer(&mut nothing);
        processor.process(&input_audio, &mut output_audio, &events, &mut sent, None, None).unwrap();
        if frame > 0 {
            allocations += ALLOCATIONS.get() - before;
        }
        at += length;
    }
    instance.deactivate(processor.stop_processing());
    (heard, allocations)
}

fn samples() -> Vec<f32> {
    (0..FRAMES.iter().sum::<usize>()).map(|t| 0.3 * (t as f32 * 0.05).sin()).collect()
}

#[test]
fn a_host_hears_what_the_network_computes_and_nothing_is_allocated() {
    let folder = std::env::temp_dir().join(format!("gatefold-clap-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = model(&folder);
    let samples = samples();
    let network = amp::load(&path).unwrap().network;
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let expected = session.run(Input::features(&samples, [1, samples.len(), 1]), None).unwrap().values;

    let mut amp = instance();
    assert!(load(&mut amp, &serde_json::json!({ "model": path }).to_string()));
    let (heard, allocations) = played(&mut amp, &samples, None);
    assert_eq!(heard, expected);
    assert_eq!(allocations, 0);
    // A second activation begins with the state that the model begins with; a gain of 6.02 dB doubles.
    let (louder, _) = played(&mut amp, &samples, Some(20.0 * 2f64.log10()));
    for (louder, heard) in louder.iter().zip(&expected) {
        assert!((louder - 2.0 * heard).abs() <= 1e-6, "{louder} {heard}");
    }
    assert_ne!(louder, heard);

    // The state is what the host saves with a project.
    let mut saved = Vec::new();
    let mut plugin = amp.plugin_handle();
    let extension = plugin.get_extension::<PluginState>().unwrap();
    extension.save(&mut plugin, &mut saved).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&saved).unwrap();
    assert_eq!(saved["model"], path.to_string_lossy().as_ref());
    assert!((saved["output"].as_f64().unwrap() - 6.0206).abs() < 1e-3);
    let params = plugin.get_extension::<PluginParams>().unwrap();
    assert_eq!(params.count(&mut plugin), 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn without_a_model_the_signal_passes() {
    let samples = samples();
    assert_eq!(played(&mut instance(), &samples, None).0, samples);
}

#[test]
fn wrong_states_models_and_rates_are_refused() {
    let folder = std::env::temp_dir().join(format!("gatefold-clap-wrong-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut amp = instance();
    assert!(!load(&mut amp, "no JSON"));
    assert!(load(&mut amp, r#"{"model": "/nowhere.nam"}"#));
    assert!(amp.activate(|_, ()| (), configuration(48000.0)).is_err());
    assert!(load(&mut amp, &serde_json::json!({ "model": model(&folder) }).to_string()));
    assert!(amp.activate(|_, ()| (), configuration(44100.0)).is_err());
    let processor = amp.activate(|_, ()| (), configuration(48000.0)).unwrap();
    amp.deactivate(processor);
    std::fs::remove_dir_all(folder).unwrap();
}
