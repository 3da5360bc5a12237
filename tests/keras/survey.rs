//! Everything that is refused in a model, not the first of it only.

use gatefold::formats::{self, Survey};
use serde_json::{Value, json};

use crate::bundle::{files, reconfigured};

/// What is found in `graph_branches.keras`, changed; its layers: InputLayer, LSTM, GRU, Concatenate, Dense, Dropout, Add,
/// Multiply, Average, Maximum, Dropout, each of which reads some before it.
fn survey(change: impl FnOnce(&mut Value)) -> Survey {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.keras");
    std::fs::write(&path, reconfigured("graph_branches.keras", change)).unwrap();
    formats::survey(&path).unwrap().expect("a survey of a Keras file")
}

#[test]
fn everything_that_is_refused_is_listed() {
    let found = survey(|model| {
        let layers = &mut model["config"]["layers"];
        layers[2]["config"]["activation"] = json!("softmax");
        layers[4]["config"]["activation"] = json!("mine");
        layers[5]["class_name"] = json!("Lambda");
    });
    // Dense and what comes after it depends on the GRU; of the Dense no more than its class is looked at.
    assert_eq!((found.nodes, found.read, found.behind), (11, 2, 7), "{found:?}");
    assert_eq!(found.refusals.len(), 2, "{found:?}");
    assert!(found.refusals[0].contains("`gru`") && found.refusals[0].contains("softmax"), "{found:?}");
    assert!(found.refusals[1].contains("`dropout`: Keras layer class Lambda"), "{found:?}");

    // So are calls with arguments that are not read, and what else there is beside them.
    let found = survey(|model| {
        let layers = &mut model["config"]["layers"];
        layers[1]["inbound_nodes"][0]["kwargs"]["of_a_later_version"] = json!(1);
        layers[2]["inbound_nodes"][0]["args"].as_array_mut().unwrap().push(json!(3));
    });
    assert_eq!(found.refusals.len(), 2, "{found:?}");
    assert!(found.refusals[0].contains("`lstm`") && found.refusals[0].contains("of_a_later_version"), "{found:?}");
    assert!(found.refusals[1].contains("`gru`") && found.refusals[1].contains("a call with 2 arguments"), "{found:?}");

    // Layers of the user's own are found before the graph is built.
    let found = survey(|model| {
        for at in [4, 8] {
            model["config"]["layers"][at]["registered_name"] = json!(format!("Mine>{at}"));
        }
    });
    assert_eq!(found.refusals.len(), 2, "{found:?}");
    assert!(found.refusals[0].contains("Mine>4") && found.refusals[1].contains("Mine>8"), "{found:?}");
}

#[test]
fn a_model_that_is_read_has_nothing_to_list() {
    let found = survey(|_| {});
    assert!(found.refusals.is_empty() && found.read == found.nodes && found.nodes == 11, "{found:?}");
    // Behind a first layer that is refused, no class of any model is called unknown.
    let (mut behind, mut models) = (0, 0);
    for name in files().keys().filter(|name| name.ends_with(".keras")) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.keras");
        let change = |model: &mut Value| {
            let layers = model["config"]["layers"].as_array_mut().unwrap();
            let first = layers.iter_mut().find(|layer| layer["class_name"] != "InputLayer").unwrap();
            first["config"]["of_a_later_version"] = json!(1);
        };
        std::fs::write(&path, reconfigured(name, change)).unwrap();
        // Options of a model within the model are found before.
        let Ok(Some(found)) = formats::survey(&path) else { continue };
        assert!(found.refusals.iter().all(|refusal| refusal.contains("of_a_later_version")), "{name}: {found:?}");
        (behind, models) = (behind + found.behind, models + 1);
    }
    assert!(behind > 200 && models > 50, "{behind} layers of {models} models");
}
