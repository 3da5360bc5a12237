//! Files with one tensor or one option changed. PyTorch's `load_state_dict` refuses a tensor that is missing, renamed or of
//! another shape, and a module of another size refuses the file's tensors; so it is here, for every file of the grid.

use std::collections::HashMap;

use gatefold::Network;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::support::{Files, bundle};

/// Name, type, shape and bytes.
type Stored = (String, Dtype, Vec<usize>, Vec<u8>);
type Tensors = Vec<Stored>;
type Metadata = Option<HashMap<String, String>>;

fn parsed(bytes: &[u8]) -> (Tensors, Metadata) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let tensors = tensors.map(|(name, view)| (name, view.dtype(), view.shape().to_vec(), view.data().to_vec()));
    (tensors.collect(), SafeTensors::read_metadata(bytes).unwrap().1.metadata().clone())
}

fn read(tensors: &Tensors, metadata: &Metadata) -> gatefold::Result<Network> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    Network::from_bytes("state dict", &safetensors::serialize(views, metadata.clone()).unwrap())
}

fn models(files: &Files) -> impl Iterator<Item = (&str, &Vec<u8>)> {
    let model = |name: &str| name.ends_with(".safetensors") && !name.ends_with(".golden.safetensors");
    files.iter().map(|(name, bytes)| (name.as_str(), bytes)).filter(move |(name, _)| model(name))
}

type Change = fn(&mut Tensors, usize);

/// What a tensor may become.
const CHANGES: [(&str, Change); 5] = [
    ("gone", |all, at| drop(all.remove(at))),
    ("renamed", |all, at| all[at].0.push('x')),
    ("an axis more", |all, at| all[at].2.insert(0, 1)),
    ("turned", |all, at| all[at].2.reverse()),
    ("a row more", |all, at| {
        let (_, _, shape, data) = &mut all[at];
        let row = data.len() / shape[0];
        data.extend_from_within(..row);
        shape[0] += 1;
    }),
];

#[test]
fn a_changed_tensor_is_refused() {
    let files = bundle("pytorch_grid.zip");
    let (mut tried, mut taken) = (0, Vec::new());
    for (name, bytes) in models(&files) {
        let (tensors, metadata) = parsed(bytes);
        assert!(read(&tensors, &metadata).is_ok(), "{name}: unchanged");
        // The count of batches that a normalization has seen, the one scalar, is not read.
        for at in (0..tensors.len()).filter(|&at| !tensors[at].2.is_empty()) {
            for (what, change) in CHANGES {
                let shape = &tensors[at].2;
                if what == "turned" && shape.iter().eq(shape.iter().rev()) {
                    continue;
                }
                let mut changed = tensors.clone();
                change(&mut changed, at);
                tried += 1;
                if read(&changed, &metadata).is_ok() {
                    taken.push(format!("{name}: {} {what}", tensors[at].0));
                }
            }
        }
    }
    assert!(taken.is_empty(), "{} of {tried}:\n{}", taken.len(), taken.join("\n"));
    assert!(tried > 5_000, "{tried}");
}

/// Sizes that tensors have, names that are unknown, values of another type.
#[test]
fn a_changed_option_is_refused() {
    const SIZES: [&str; 8] = [
        "input_size",
        "hidden_size",
        "num_layers",
        "proj_size",
        "in_features",
        "out_features",
        "num_embeddings",
        "embedding_dim",
    ];
    let files = bundle("pytorch_grid.zip");
    let (mut tried, mut taken) = (0, Vec::new());
    for (name, bytes) in models(&files) {
        let (tensors, metadata) = parsed(bytes);
        let Some(text) = metadata.as_ref().and_then(|metadata| metadata.get("gatefold")) else { continue };
        let spec: Value = serde_json::from_str(text).unwrap();
        for (layer, fields) in spec["layers"].as_array().unwrap().iter().enumerate() {
            for (key, value) in fields.as_object().unwrap().iter().filter(|(key, _)| *key != "type") {
                let mut changes = vec![(format!("{key}x"), value.clone()), (key.clone(), Value::Null)];
                // An input layer has no tensor that would contradict its size.
                let has_tensors = fields["type"] != "input";
                if let (Some(size), true) = (value.as_u64(), has_tensors && SIZES.contains(&key.as_str())) {
                    changes.push((key.clone(), (size + 1).into()));
                }
                if let ("bias" | "bidirectional", Some(flag)) = (key.as_str(), value.as_bool()) {
                    changes.push((key.clone(), (!flag).into()));
                }
                for (new_key, new) in changes {
                    let mut spec = spec.clone();
                    let fields = spec["layers"][layer].as_object_mut().unwrap();
                    fields.remove(key);
                    fields.insert(new_key.clone(), new.clone());
                    let metadata = HashMap::from([("gatefold".to_owned(), spec.to_string())]);
                    tried += 1;
                    if read(&tensors, &Some(metadata)).is_ok() {
                        taken.push(format!("{name}: layer {layer}: {key} as {new_key} = {new}"));
                    }
                }
            }
        }
    }
    assert!(taken.is_empty(), "{} of {tried}:\n{}", taken.len(), taken.join("\n"));
    assert!(tried > 1_000, "{tried}");
}
