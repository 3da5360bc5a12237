//! Tensors that lie in a file beside the model.

use std::path::Path;

use gatefold::{Input, Network, Session};
use tempfile::TempDir;

use crate::support::{Files, Golden, bundle, cpu, miss};

const LOCATION: &str = "weights.bin";

/// The model and its tensors in a folder, after `change`.
fn unpacked(change: impl FnOnce(&mut Files)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut files = bundle("onnx_external.zip");
    change(&mut files);
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn load(folder: &TempDir) -> Result<Network, String> {
    Network::load(folder.path().join("model.onnx")).map_err(|error| error.to_string())
}

/// The model with another location of the same length everywhere.
fn relocated(files: &mut Files, to: &str) {
    assert_eq!(to.len(), LOCATION.len());
    let model = files.get_mut("model.onnx").unwrap();
    let mut found = 0;
    for at in 0..model.len() - LOCATION.len() {
        if &model[at..at + LOCATION.len()] == LOCATION.as_bytes() {
            model[at..at + LOCATION.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0);
}

fn refused(change: impl FnOnce(&mut Files)) -> String {
    load(&unpacked(change)).expect_err("a network came out")
}

#[test]
fn tensors_beside_the_model_are_read() {
    let files = bundle("onnx_external.zip");
    let network = load(&unpacked(|_| {})).unwrap();
    let golden = Golden::new(&files["model.golden.safetensors"]);
    let ((x, shape), (expected, _)) = (golden.numbers("input").unwrap(), golden.numbers("output").unwrap());
    let session = Session::new(&cpu(), &network).unwrap();
    let output = session.run(Input::features(&x, [shape[0], shape[1], shape[2]]), None).unwrap();
    assert_eq!(miss("output", &output.values, &expected, 16), None);
}

#[test]
fn files_that_do_not_fit_are_named() {
    let error = refused(|files| drop(files.remove(LOCATION)));
    assert!(error.contains(LOCATION), "{error}");
    let error = refused(|files| files.get_mut(LOCATION).unwrap().truncate(100));
    assert!(error.contains("tensor `") && error.contains("in a file of 100"), "{error}");
    let error = refused(|files| drop(files.insert(LOCATION.into(), Vec::new())));
    assert!(error.contains("tensor `") && error.contains("in a file of 0"), "{error}");
    // From bytes alone there is no folder.
    let files = bundle("onnx_external.zip");
    let error = gatefold::formats::onnx::from_bytes("bytes", &files["model.onnx"]).unwrap_err().to_string();
    assert!(error.contains("tensor `") && error.contains("without a folder"), "{error}");
}

/// Locations outside of the model's folder are refused, whether or not something is there.
#[test]
fn nothing_outside_the_folder_is_read() {
    for location in ["../ghts.bin", "/tmp/ts.bin", "a/../../bin", "..........."] {
        let error = refused(|files| relocated(files, location));
        let outside = error.contains("external data in the model's folder") && error.contains("tensor `");
        // A name of dots alone is an ordinary one, of a file that is not there.
        assert!(outside || location.starts_with("...."), "{location}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join(LOCATION);
    std::fs::write(&target, &bundle("onnx_external.zip")[LOCATION]).unwrap();
    let link = |folder: &TempDir, to: &Path| {
        let place = folder.path().join(LOCATION);
        std::fs::remove_file(&place).ok();
        std::os::unix::fs::symlink(to, place).unwrap();
    };
    let folder = unpacked(|_| {});
    link(&folder, &target);
    let error = load(&folder).unwrap_err();
    assert!(error.contains("a link to") && error.contains("tensor `"), "{error}");
    // A folder where a file is due.
    link(&folder, folder.path());
    assert!(load(&folder).is_err());
}
