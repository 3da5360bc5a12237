//! The numbers that the npm package is tested against in a browser (`web/test/`): outputs of the native f32 reference's device, this
//! CPU, for networks and inputs made from a seed. This test keeps them true.

use std::collections::BTreeMap;
use std::fs;

use gatefold::network::Init;
use gatefold::{Device, Network, NetworkSpec, RandomInput, Session};
use serde_json::{Value, json};

use crate::repository::in_repository;

const SEED: u64 = 1;
/// Numbers of an output that are kept.
const KEPT: usize = 24;

#[test]
fn outputs_for_browsers_are_those_of_this_cpu() {
    let folder = in_repository("tests/goldens/web");
    let networks: Vec<Value> =
        serde_json::from_str(&fs::read_to_string(folder.join("networks.json")).unwrap()).unwrap();
    let mut outputs: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for case in &networks {
        let spec: NetworkSpec = serde_json::from_value(json!({"format": 1, "layers": case["layers"]})).unwrap();
        let network = Network::initialized(spec, Init::PyTorch, SEED).unwrap();
        let size = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let input = RandomInput::new(&network, size("steps"), size("batch"), SEED).unwrap();
        let session = Session::new(&Device::cpu(), &network).unwrap();
        let output = session.run(input.as_input().with_axes(network.input_axes()), None).unwrap();
        // The last numbers have been through every timestep.
        let kept = output.values[output.values.len().saturating_sub(KEPT)..].to_vec();
        outputs.insert(case["name"].as_str().unwrap().to_owned(), kept);
    }
    let path = folder.join("outputs.json");
    if std::env::var_os("GATEFOLD_WRITE_WEB_GOLDENS").is_some() {
        let lines: Vec<String> = outputs.iter().map(|(name, values)| format!("{name:?}: {}", json!(values))).collect();
        fs::write(&path, format!("{{\n{}\n}}\n", lines.join(",\n"))).unwrap();
    }
    let stored: BTreeMap<String, Vec<f32>> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(stored.len(), networks.len());
    let far = |stored: &BTreeMap<String, Vec<f32>>| {
        let pairs = outputs.iter().flat_map(|(name, values)| values.iter().zip(&stored[name]));
        pairs.fold(0.0, |far: f32, (a, b)| far.max((a - b).abs()))
    };
    assert!(far(&stored) < 2e-6, "{}", far(&stored));
    let mut wrong = stored;
    wrong.get_mut("lstm 64").unwrap()[3] += 1e-4;
    assert!(far(&wrong) > 5e-5, "the check can fail");
}
