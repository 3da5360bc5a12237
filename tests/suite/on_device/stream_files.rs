//! Streams stored in files, and continued in other pools and on other devices.

use std::panic::AssertUnwindSafe;

use gatefold::{Device, Network, State};

use super::streams::{Follower, Source, networks};
use crate::common::{device, pool};

/// A stream stored in a file continues in another pool, on another device. `fault` changes its state before it is restored.
pub fn continue_elsewhere([from, to]: [&Device; 2], name: &str, network: &Network, fault: impl Fn(&mut State)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream");
    let source = Source::new(network, 12, 4);
    let first = pool(from, network, 1);
    let mut stream = Follower { id: first.open().unwrap(), source, at: 0, got: Vec::new() };
    let advanced = first.advance(&[(stream.id, stream.source.input(network, 0, 4))]).unwrap();
    stream.take(network, &advanced, 0);
    first.snapshot(stream.id).unwrap().save(&path, network).unwrap();

    let second = pool(to, network, 1);
    stream.id = second.open().unwrap();
    let mut state = State::load(&path, network).unwrap();
    fault(&mut state);
    second.restore(stream.id, &state).unwrap();
    let advanced = second.advance(&[(stream.id, stream.source.input(network, 4, 12))]).unwrap();
    stream.take(network, &advanced, 0);
    stream.check(name, network, &second);
}

#[test]
fn a_saved_stream_continues_elsewhere() {
    let device = device();
    for (name, network) in networks() {
        for way in [[device, &Device::cpu()], [&Device::cpu(), device]] {
            continue_elsewhere(way, name, &network, |_| {});
        }
    }
}

/// Negative control: for every kind of network, a state that has lost a part is detected.
#[test]
fn a_lost_part_is_noticed() {
    let device = device();
    for (name, network) in networks() {
        for way in [[device, &Device::cpu()], [&Device::cpu(), device]] {
            let lost = |state: &mut State| state.layers[0].parts[0].data.fill(0.0);
            let check = AssertUnwindSafe(|| continue_elsewhere(way, name, &network, lost));
            let panic = std::panic::catch_unwind(check).expect_err(name);
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains("passed: false"), "{name}: {message}");
        }
    }
}
