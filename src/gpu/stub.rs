//! What stands in for `gpu` in a build without the feature: the same names, and nothing that could ever exist. So the
//! rooms above have one text for both builds, and the compiler drops what would go on with a GPU.
#![allow(dead_code, reason = "nothing here is ever made or read")]

use std::sync::{Arc, MutexGuard};

use crate::adapter::{DeviceChoice, DeviceInfo, DeviceOptions};
use crate::base::error::Result;
use crate::counters::Meter;
use crate::data::banks::{Bank, BankRows};
use crate::data::input::Checked;
use crate::data::run::{Raw, RunRequest, Wait};
use crate::data::state::State;
use crate::measured::Tuning;
use crate::network::Network;
use crate::plan::train::{TrainGoal, TrainLayout, TrainMetrics, TrainTask};
use crate::plan::{MatrixUnits, Plan, PlanLimits, PlanOptions, RunShape};

/// Has no value, nor has what holds it.
#[derive(Debug)]
enum Never {}

#[derive(Debug)]
pub(crate) struct Context(Never);

#[derive(Debug)]
pub(crate) struct GpuEngine(Never);

#[derive(Debug)]
pub(crate) struct Slots(Never);

pub(crate) struct Chooser(Never);

pub(crate) struct SharedWeights(Never);

pub(crate) struct Lister(Never);

pub(crate) struct Pending<'a>(&'a GpuEngine);

pub(crate) enum Start<'a> {
    Slots(&'a mut Slots, [&'a [u32]; 2]),
}

pub(crate) struct ChooserInput<'a> {
    pub slots: &'a [u32],
    pub tokens: &'a [u32],
    pub progress: &'a [u32],
    pub banks: Option<&'a BankRows>,
}

pub(crate) struct ListerInput<'a> {
    pub from: &'a [u32],
    pub to: &'a [u32],
    pub tokens: &'a [u32],
    pub banks: Option<&'a BankRows>,
}

#[derive(Debug)]
pub(crate) struct GpuTrainer(Never);

pub(crate) struct TrainBatch<'a> {
    pub input: &'a Checked<'a>,
    pub state: Option<&'a State>,
    pub targets: &'a [u32],
    pub values: bool,
    pub labels: usize,
    pub metrics: Option<TrainMetrics>,
    pub factors: &'a [f32],
    pub slot: usize,
    pub learning_rate: f32,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct StepResult {
    pub loss: f32,
    pub correct: u32,
    pub norm: f32,
    pub skipped: bool,
}

/// Every choice leads to the CPU, or nowhere.
pub(crate) async fn open(choice: &DeviceChoice, _: DeviceOptions) -> Result<Option<(DeviceInfo, Context)>> {
    choice.narrowed(None, None).select(&[]).map(|_| None)
}

pub(crate) async fn bandwidth(context: &Context, _: Wait) -> Result<f64> {
    match context.0 {}
}

impl Context {
    pub fn limits(&self) -> PlanLimits {
        match self.0 {}
    }

    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        match self.0 {}
    }
}

impl GpuEngine {
    #[expect(clippy::needless_pass_by_value, reason = "as the engine has it")]
    pub fn sharing(_: Arc<Context>, _: &Network, weights: SharedWeights, _: Arc<Meter>) -> Result<Self> {
        match weights.0 {}
    }

    pub async fn new(
        context: Arc<Context>,
        _: &Network,
        _: PlanOptions,
        _: Option<&Arc<Tuning>>,
        _: Arc<Meter>,
    ) -> Result<Self> {
        match context.0 {}
    }

    pub fn check(&self) -> Result<()> {
        match self.0 {}
    }

    pub fn same_device(&self, _: &Self) -> bool {
        match self.0 {}
    }

    pub fn plan(&self, _: RunShape) -> Result<Plan> {
        match self.0 {}
    }

    pub async fn run(&self, _: &Checked<'_>, _: Option<&State>, _: RunRequest, _: Wait) -> Result<Raw> {
        match self.0 {}
    }

    pub fn submit_now(&self, _: &Checked<'_>, _: Start<'_>, _: RunRequest) -> Result<Pending<'_>> {
        match self.0 {}
    }

    pub fn chooser(&self, _: &Slots, _: &ChooserInput<'_>, _: &[u32], _: usize, _: usize) -> Result<Chooser> {
        match self.0 {}
    }

    pub fn choose(&self, _: &Chooser, _: usize) -> Result<Vec<u32>> {
        match self.0 {}
    }

    pub fn chosen(&self, _: &Chooser) -> Result<Vec<u32>> {
        match self.0 {}
    }

    pub fn lister(&self, _: &Slots, _: usize, _: usize, _: Option<&BankRows>) -> Result<Lister> {
        match self.0 {}
    }

    pub fn list(&self, _: &Lister, _: &ListerInput<'_>) -> Result<Vec<u32>> {
        match self.0 {}
    }
}

impl GpuTrainer {
    pub fn new(context: &Arc<Context>, _: &Network, _: PlanOptions, _: TrainTask, _: &[f32]) -> Result<Self> {
        match context.0 {}
    }

    pub fn turn(&self) -> MutexGuard<'_, ()> {
        match self.0 {}
    }

    pub fn shared_weights(&self) -> (Arc<Context>, SharedWeights) {
        match self.0 {}
    }

    pub fn layout(&self) -> &TrainLayout {
        match self.0 {}
    }

    pub fn submit(&self, _: &TrainBatch<'_>, _: TrainGoal) -> Result<()> {
        match self.0 {}
    }

    pub fn results(&self, _: usize, _: usize) -> Result<Vec<StepResult>> {
        match self.0 {}
    }

    pub fn counts(&self) -> Result<Vec<u32>> {
        match self.0 {}
    }

    pub fn read_state(&self, _: &mut State) -> Result<()> {
        match self.0 {}
    }

    pub fn parameters(&self) -> Result<Vec<f32>> {
        match self.0 {}
    }

    pub fn statistics(&self) -> Result<Vec<f32>> {
        match self.0 {}
    }

    pub fn average(&self) -> Result<Option<Vec<f32>>> {
        match self.0 {}
    }

    pub fn set_average(&self, _: &[f32]) -> Result<()> {
        match self.0 {}
    }

    pub fn gradients(&self) -> Result<Vec<f32>> {
        match self.0 {}
    }

    pub fn optimizer_state(&self) -> Result<(Vec<f32>, u32)> {
        match self.0 {}
    }

    pub fn set_optimizer_state(&self, _: &[f32], _: u32) -> Result<()> {
        match self.0 {}
    }

    pub fn set_weights(&self, _: &Network) -> Result<()> {
        match self.0 {}
    }
}

impl Slots {
    pub fn new(engine: &GpuEngine, _: usize, _: usize) -> Result<Self> {
        match engine.0 {}
    }

    pub fn most(engine: &GpuEngine) -> usize {
        match engine.0 {}
    }

    pub fn bytes(&self) -> u64 {
        match self.0 {}
    }

    pub fn grown(&self, _: &GpuEngine, _: usize, _: usize) -> Result<Self> {
        match self.0 {}
    }

    pub fn write(&self, _: &GpuEngine, _: &[u32], _: &[f32]) -> Result<()> {
        match self.0 {}
    }

    pub fn copy(&self, _: &GpuEngine, _: &[u32], _: &[u32]) -> Result<()> {
        match self.0 {}
    }

    pub fn copy_from(&self, _: &GpuEngine, _: &Self, _: &[u32], _: &[u32]) -> Result<()> {
        match self.0 {}
    }

    pub fn bank_room(&self) -> usize {
        match self.0 {}
    }

    pub fn put_bank(&mut self, _: &GpuEngine, _: &Bank, _: usize, _: usize) -> Result<()> {
        match self.0 {}
    }

    pub fn read_bank<'a>(&self, _: &'a GpuEngine, _: usize, _: &[usize]) -> Result<Pending<'a>> {
        match self.0 {}
    }

    pub fn read<'a>(&self, _: &'a GpuEngine, _: &[u32]) -> Result<Pending<'a>> {
        match self.0 {}
    }
}

impl Pending<'_> {
    pub fn wait(self) -> Result<Raw> {
        match self.0.0 {}
    }

    pub async fn resolve(self, _: Wait) -> Result<Raw> {
        match self.0.0 {}
    }

    pub fn forget(self) {
        match self.0.0 {}
    }
}
