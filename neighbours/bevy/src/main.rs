//! A crowd in Bevy. Each of its members is a stream of one LSTM, which runs on the device that Bevy renders with.
//!
//! The LSTM learns at the start to follow a target with inertia, as a low-pass filter does: for that it needs its state.
//! `--frames N` runs without a window and prints how near the crowd came to the target.

use std::error::Error;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::render::renderer::{RenderAdapter, RenderDevice, RenderQueue};
use bevy::window::ExitCondition;
use gatefold::network::{Activation, DenseSpec, Init, LayerSpec, RecurrentSpec};
use gatefold::train::{Adam, Answers, Dataset, Fit, Loss, Next, TrainOptions, Trainer};
use gatefold::{Device, Input, Network, NetworkSpec, Session, StreamId, StreamPool};

/// Members of the crowd.
const MEMBERS: usize = 256;
/// Timesteps of a sequence that the network learns from.
const STEPS: usize = 24;
/// The share of the way to the target that a member goes in a step, once it moves.
const SPEED: f32 = 0.1;

/// The network and the state of every member, on the renderer's device.
#[derive(Resource)]
struct Crowd {
    pool: StreamPool,
    streams: Vec<StreamId>,
    input: Vec<f32>,
    /// The time that the last frames took.
    times: Vec<Duration>,
}

/// A member, by its stream.
#[derive(Component)]
struct Member(usize);

/// Where the crowd goes.
#[derive(Resource)]
struct Target(Vec2);

/// Adds a [`Crowd`] to an application that renders.
struct CrowdPlugin;

impl Plugin for CrowdPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(Target(Vec2::ZERO)).add_systems(Startup, spawn).add_systems(Update, (lead, follow).chain());
    }

    fn finish(&self, app: &mut App) {
        // Bevy's renderer puts these into the world; without a GPU they are not there.
        let world = app.world();
        let parts = (
            world.get_resource::<RenderAdapter>(),
            world.get_resource::<RenderDevice>(),
            world.get_resource::<RenderQueue>(),
        );
        let device = match parts {
            (Some(adapter), Some(device), Some(queue)) => {
                Device::from_wgpu_adapter(adapter, device.wgpu_device().clone(), (**queue).clone())
            }
            _ => Device::cpu(),
        };
        info!("the crowd runs on {}", device.info());
        match Crowd::new(&device) {
            Ok(crowd) => drop(app.insert_resource(crowd)),
            Err(error) => error!("no crowd: {error}"),
        }
    }
}

impl Crowd {
    fn new(device: &Device) -> Result<Self, Box<dyn Error>> {
        let pool = StreamPool::new(Session::new(device, &trained()?)?, MEMBERS)?;
        let streams = (0..MEMBERS).map(|_| pool.open()).collect::<Result<_, _>>()?;
        Ok(Self { pool, streams, input: vec![0.0; 2 * MEMBERS], times: Vec::new() })
    }
}

/// An LSTM that smooths what it reads.
fn trained() -> Result<Network, Box<dyn Error>> {
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: 16,
        out_features: 2,
        bias: true,
        activation: Activation::Linear,
    };
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 2, 16)), LayerSpec::Dense(dense)];
    let network =
        Network::initialized(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, Init::PyTorch, 1)?;
    let (mut read, mut answers) = (Vec::new(), Vec::new());
    for sequence in 0..64 {
        let (mut inputs, mut outputs, mut smooth) = (Vec::new(), Vec::new(), [0.0f32; 2]);
        for step in 0..STEPS {
            for axis in 0..2 {
                // Jumps between directions.
                let x = ((sequence * 7 + step / 6 * 13 + axis * 5) as f32).sin();
                smooth[axis] += 0.3 * (x - smooth[axis]);
                inputs.push(x);
                outputs.push(smooth[axis]);
            }
        }
        read.push(inputs);
        answers.push(outputs);
    }
    let data = Dataset::features(read, 2, Answers::Values(answers))?;
    let adam = Adam { learning_rate: 1e-2, ..Adam::default() };
    let mut trainer = Trainer::new(&Device::cpu(), &network, TrainOptions::new(Loss::Mse).optimizer(adam))?;
    trainer.fit(&data, None, &Fit::new(32).epochs(60), |_| Next::Continue)?;
    Ok(Network::clone(&*trainer.network()?))
}

fn spawn(mut commands: Commands) {
    for member in 0..MEMBERS {
        let angle = member as f32 * 2.399_963; // the golden angle spreads them evenly
        let at = Vec2::from_angle(angle) * (20.0 * (member as f32).sqrt());
        commands.spawn((Member(member), Transform::from_translation(at.extend(0.0))));
    }
}

/// The target goes around.
fn lead(time: Res<Time>, mut target: ResMut<Target>) {
    target.0 = Vec2::from_angle(0.5 * time.elapsed_secs()) * 150.0;
}

/// One timestep of every stream: from the way to the target to the way that the member goes.
fn follow(crowd: Option<ResMut<Crowd>>, target: Res<Target>, mut members: Query<(&Member, &mut Transform)>) {
    let Some(mut crowd) = crowd else { return };
    let crowd = &mut *crowd;
    for (member, place) in &members {
        let way = (target.0 - place.translation.truncate()).clamp_length_max(100.0) / 100.0;
        crowd.input[2 * member.0..][..2].copy_from_slice(&way.to_array());
    }
    let start = Instant::now();
    let frame: Vec<_> = crowd
        .streams
        .iter()
        .zip(crowd.input.chunks_exact(2))
        .map(|(&stream, way)| (stream, Input::features(way, [1, 1, 2])))
        .collect();
    let ways = match crowd.pool.advance(&frame) {
        Ok(ways) => ways,
        Err(error) => return error!("the crowd stands still: {error}"),
    };
    crowd.times.push(start.elapsed());
    for (member, mut place) in &mut members {
        let way = ways.values(member.0);
        place.translation += SPEED * 100.0 * Vec3::new(way[0], way[1], 0.0);
    }
}

fn main() -> AppExit {
    let mut arguments = std::env::args().skip(1);
    let frames = match (arguments.next().as_deref(), arguments.next().map(|frames| frames.parse::<usize>())) {
        (None, _) => None,
        (Some("--frames"), Some(Ok(frames))) if frames > 0 => Some(frames),
        _ => {
            eprintln!("usage: gatefold-bevy [--frames N]");
            return AppExit::from_code(2);
        }
    };
    match frames {
        Some(frames) => headless(frames),
        None => windowed(),
    }
}

/// Renders nothing, but has the renderer's device.
fn headless(frames: usize) -> AppExit {
    let mut app = App::new();
    let window = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
    let plugins = DefaultPlugins.set(window);
    #[cfg(feature = "window")]
    let plugins = plugins.disable::<bevy::winit::WinitPlugin>();
    app.add_plugins((plugins, CrowdPlugin));
    // The renderer opens its device in the background.
    while app.plugins_state() == bevy::app::PluginsState::Adding {
        bevy::tasks::tick_global_task_pools_on_main_thread();
    }
    app.finish();
    app.cleanup();
    for _ in 0..frames {
        app.update();
    }
    let target = app.world().resource::<Target>().0;
    let mut members = app.world_mut().query::<(&Member, &Transform)>();
    let distances = members.iter(app.world()).map(|(_, place)| place.translation.truncate().distance(target));
    let farthest = distances.fold(0.0, f32::max);
    let Some(crowd) = app.world().get_resource::<Crowd>() else { return AppExit::from_code(1) };
    let mut times = crowd.times.clone();
    times.sort();
    println!(
        "{MEMBERS} members, {frames} frames on {}: {:.2?} a frame for the crowd (median), the farthest is {farthest:.0} from the target",
        crowd.pool.session().device().info(),
        times[times.len() / 2],
    );
    if farthest < 150.0 { AppExit::Success } else { AppExit::from_code(1) }
}

#[cfg(feature = "window")]
fn windowed() -> AppExit {
    let window = Window { title: "gatefold and Bevy".into(), ..default() };
    App::new()
        .add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }))
        .add_plugins(CrowdPlugin)
        .add_systems(Startup, |mut commands: Commands| drop(commands.spawn(Camera2d)))
        .add_systems(PostStartup, draw)
        .run()
}

#[cfg(not(feature = "window"))]
fn windowed() -> AppExit {
    eprintln!("gatefold-bevy: expected --frames N, as this program was built without the feature `window`");
    AppExit::from_code(2)
}

/// Gives every member a square.
#[cfg(feature = "window")]
fn draw(mut commands: Commands, members: Query<(Entity, &Member)>) {
    for (entity, member) in &members {
        let color = Color::hsl(360.0 * member.0 as f32 / MEMBERS as f32, 0.7, 0.6);
        commands.entity(entity).insert(Sprite::from_color(color, Vec2::splat(6.0)));
    }
}
