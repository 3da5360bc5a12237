//! The two gains, as parameters of the host.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use clack_extensions::params::{
    ParamDisplayWriter, ParamInfo, ParamInfoFlags, ParamInfoWriter, PluginAudioProcessorParams, PluginMainThreadParams,
};
use clack_plugin::events::UnknownEvent;
use clack_plugin::events::spaces::CoreEventSpace;
use clack_plugin::prelude::*;
use clack_plugin::utils::Cookie;

use crate::{MainThread, Processor};

/// The highest gain, and with a minus the lowest, in dB.
const MOST: f64 = 24.0;

const NAMES: [&str; 2] = ["Input", "Output"];

/// Gains before and after the network in dB, as the bits of an f32.
#[derive(Default)]
pub struct Gains([AtomicU32; 2]);

impl Gains {
    pub fn decibels(&self) -> [f64; 2] {
        self.0.each_ref().map(|gain| f32::from_bits(gain.load(Ordering::Relaxed)).into())
    }

    pub fn set(&self, decibels: [f64; 2]) {
        for (gain, decibels) in self.0.iter().zip(decibels) {
            gain.store((decibels.clamp(-MOST, MOST) as f32).to_bits(), Ordering::Relaxed);
        }
    }

    /// Factors of samples.
    pub fn factors(&self) -> [f32; 2] {
        self.decibels().map(|decibels| 10f64.powf(decibels / 20.0) as f32)
    }

    /// Takes a change of a parameter; other events are left.
    pub fn change(&self, event: &UnknownEvent) {
        let Some(CoreEventSpace::ParamValue(change)) = event.as_core_event() else { return };
        if !change.value().is_finite() {
            return;
        }
        let Some(place) = change.param_id().and_then(|id| self.0.get(id.get() as usize)) else { return };
        place.store((change.value().clamp(-MOST, MOST) as f32).to_bits(), Ordering::Relaxed);
    }
}

impl PluginMainThreadParams for MainThread<'_> {
    fn count(&self) -> u32 {
        NAMES.len() as u32
    }

    fn get_info(&self, index: u32, info: &mut ParamInfoWriter) {
        let Some(name) = NAMES.get(index as usize) else { return };
        info.set(&ParamInfo {
            id: ClapId::new(index),
            flags: ParamInfoFlags::IS_AUTOMATABLE,
            cookie: Cookie::empty(),
            name: name.as_bytes(),
            module: b"",
            min_value: -MOST,
            max_value: MOST,
            default_value: 0.0,
        });
    }

    fn get_value(&self, id: ClapId) -> Option<f64> {
        self.shared.gains.decibels().get(id.get() as usize).copied()
    }

    fn value_to_text(&self, _: ClapId, value: f64, writer: &mut ParamDisplayWriter) -> std::fmt::Result {
        write!(writer, "{value:.1} dB")
    }

    fn text_to_value(&self, _: ClapId, text: &CStr) -> Option<f64> {
        let value: f64 = text.to_str().ok()?.trim().trim_end_matches("dB").trim_end().parse().ok()?;
        value.is_finite().then(|| value.clamp(-MOST, MOST))
    }

    fn flush(&self, changes: &InputEvents, _: &mut OutputEvents) {
        changes.iter().for_each(|event| self.shared.gains.change(event));
    }
}

impl PluginAudioProcessorParams for Processor<'_> {
    fn flush(&mut self, changes: &InputEvents, _: &mut OutputEvents) {
        changes.iter().for_each(|event| self.shared.gains.change(event));
    }
}
