//! Compiled kernels, kept from one device to the next.

use std::fs;
use std::path::Path;

use gatefold::network::LayerSpec;
use gatefold::{Device, Error, Input, Network, Session};

use crate::common::{device, lstm, own_device, spec};

/// The device under test opened anew: what is compiled there is compiled again.
fn anew(device: &Device) -> Device {
    let choice = format!("{}:{}", device.info().backend, device.info().name);
    Device::open(&choice.parse().unwrap()).unwrap()
}

fn answer(device: &Device) -> Vec<f32> {
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(3, 20))]), 5).unwrap();
    let input: Vec<f32> = (0..3 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
    Session::new(device, &network).unwrap().run(Input::features(&input, [4, 2, 3]), None).unwrap().values
}

/// Loads `path` on a fresh device, runs, and says whether what was there was used and whether something was written.
fn round(device: &Device, path: &Path) -> (bool, bool) {
    let fresh = anew(device);
    let used = fresh.load_pipeline_cache(path).unwrap();
    assert_eq!(answer(&fresh), answer(device), "a cache changes no bit");
    (used, fresh.save_pipeline_cache(path).unwrap())
}

#[test]
fn what_was_compiled_is_used_again() {
    let device = device();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a folder/of its own/pipelines.bin");
    if device.info().backend != "vulkan" {
        // Only Vulkan has a cache; on other backends nothing is read or written.
        assert_eq!(round(device, &path), (false, false));
        assert!(anew(device).pipeline_cache().is_none() && !path.exists());
        return;
    }
    assert_eq!(anew(device).pipeline_cache(), None, "no cache was requested");
    assert_eq!(round(device, &path), (false, true));
    let good = fs::read(&path).unwrap();
    eprintln!("{}: {} bytes", device.info(), good.len());
    for _ in 0..3 {
        // SwiftShader keeps nothing, and hands out what it was given with 32 bytes more: no reason to write again.
        assert_eq!(round(device, &path), (true, false), "the second time it is there");
        assert_eq!(fs::read(&path).unwrap().len(), good.len(), "the file does not grow");
    }
    // Cut off, changed, foreign, or no such file at all: not used, and replaced.
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    let name = device.info().name.as_bytes();
    let mut foreign = good.clone();
    let at = foreign.windows(name.len()).position(|part| part == name).expect("the adapter's name");
    foreign[at] ^= 1;
    for bad in [&good[..good.len() - 1], &good[..20], b"", b"{\"format\": 2}", &changed, &foreign] {
        fs::write(&path, bad).unwrap();
        assert_eq!(round(device, &path), (false, true), "{} bytes", bad.len());
        assert_eq!(round(device, &path), (true, false));
    }
    // Bytes serve as a file does.
    let fresh = anew(device);
    // SAFETY: what was saved above.
    #[allow(unsafe_code, reason = "the contract of the call")]
    let used = unsafe { [fresh.use_pipeline_cache(&[]), fresh.use_pipeline_cache(&fs::read(&path).unwrap())] };
    assert_eq!(used, [false, true]);
    assert_eq!((answer(&fresh), fresh.pipeline_cache().is_some()), (answer(device), true));
}

#[test]
fn a_device_without_a_pipeline_cache_says_so() {
    let device = device();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipelines.bin");
    // The CPU and a device opened without the feature have none.
    let (_, own, queue) = own_device(device.info());
    for without in [Device::cpu(), Device::from_wgpu(own, queue)] {
        assert!(!without.load_pipeline_cache(&path).unwrap() && !without.save_pipeline_cache(&path).unwrap());
        answer(&without);
        assert_eq!((without.pipeline_cache(), path.exists()), (None, false));
    }
    if device.info().backend == "vulkan" {
        let fresh = anew(device);
        let error = fresh.load_pipeline_cache(folder.path()).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path == folder.path()), "{error}");
        assert_eq!(fresh.pipeline_cache(), None);
        fresh.load_pipeline_cache(&path).unwrap();
        let error = fresh.save_pipeline_cache(Path::new("/proc/no/pipelines.bin")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
