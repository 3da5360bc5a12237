//! The dropout that Keras' files state.

use gatefold::Network;
use gatefold::formats::keras;
use gatefold::network::FileDropout;
use gatefold::train::{Dropout, Loss, RecurrentDropout, TrainOptions};

use serde_json::{Value, json};

use crate::bundle::{network, reconfigured};

fn elements(layer: &str, rate: f32) -> FileDropout {
    FileDropout::Elements { layer: layer.into(), rate }
}

/// The layer that is read by the name that Keras gave it.
fn named(network: &Network, at: usize) -> &str {
    network.spec().layers[at].name()
}

#[test]
fn dropout_of_a_file_is_kept() {
    for file in ["stacked.keras", "stacked.h5"] {
        let network = network(file);
        let lstm = named(&network, 0);
        let inside = FileDropout::Recurrent { layer: lstm.into(), input: 0.1, state: 0.0 };
        assert_eq!(network.file_dropout(), [inside, elements(lstm, 0.25)], "{file}");
        let again = Network::from_bytes("again", &network.to_bytes().unwrap()).unwrap();
        assert_eq!(again.file_dropout(), network.file_dropout());
        let mut damaged = network.to_bytes().unwrap();
        let place = damaged.windows(8).position(|part| part == b"elements").unwrap();
        damaged[place] = b'x';
        let error = Network::from_bytes("damaged", &damaged).unwrap_err().to_string();
        assert!(error.contains("gatefold.file_dropout") && !error.contains('\n'), "{error}");
        let options = TrainOptions::new(Loss::CrossEntropy).file_dropout(&network).unwrap();
        assert_eq!(options.dropout, [Dropout::elements(lstm, 0.25)]);
        assert_eq!(options.recurrent_dropout, [RecurrentDropout::new(lstm, 0.1, 0.0)]);
    }
    let no_bias = network("gru_no_bias.keras");
    let expected = FileDropout::Recurrent { layer: named(&no_bias, 0).into(), input: 0.0, state: 0.2 };
    assert_eq!(no_bias.file_dropout(), [expected]);
    let both = network("bidirectional_last.keras");
    let expected = FileDropout::Recurrent { layer: named(&both, 0).into(), input: 0.1, state: 0.0 };
    assert_eq!(both.file_dropout(), [expected]);
    let embedding = network("embedding_mask_zero.keras");
    let expected = FileDropout::Channels { layer: named(&embedding, 0).into(), rate: 0.2 };
    assert_eq!(embedding.file_dropout(), [expected]);
    // Negative control: a file that states none.
    assert!(network("lstm.keras").file_dropout().is_empty());
}

#[test]
fn dropout_of_cells_is_that_of_their_layers() {
    const NAME: &str = "flow_cells.keras";
    let stated = reconfigured(NAME, |model| {
        let layers = model["config"]["layers"].as_array_mut().unwrap();
        let cells: Vec<&mut Value> = layers.iter_mut().filter_map(|layer| layer["config"].get_mut("cell")).collect();
        for (cell, rate) in cells.into_iter().zip([0.125, 0.25]) {
            match cell["config"].get_mut("cells") {
                Some(cells) => cells[1]["config"]["recurrent_dropout"] = json!(rate),
                None => cell["config"]["dropout"] = json!(rate),
            }
        }
    });
    let stated = keras::from_bytes(NAME, &stated).unwrap();
    let second =
        network(NAME).spec().layers.iter().map(|layer| layer.name().to_owned()).find(|name| name.ends_with("_cell1"));
    let expected = [
        FileDropout::Recurrent { layer: named(&stated, 0).into(), input: 0.125, state: 0.0 },
        FileDropout::Recurrent { layer: second.unwrap(), input: 0.0, state: 0.25 },
    ];
    assert_eq!(stated.file_dropout(), expected);
    TrainOptions::new(Loss::Mse).file_dropout(&stated).unwrap();
    assert!(network(NAME).file_dropout().is_empty());
}

#[test]
fn what_training_does_not_drop_is_named() {
    let noise = network("nothing_to_do.keras");
    let found: Vec<&str> = noise
        .file_dropout()
        .iter()
        .map(|dropout| match dropout {
            FileDropout::Other { what, .. } => what.as_str(),
            _ => "elements",
        })
        .collect();
    assert_eq!(found, ["Keras GaussianNoise", "Keras GaussianDropout", "Keras AlphaDropout", "elements"]);
    let error = TrainOptions::new(Loss::Mse).file_dropout(&noise).unwrap_err().to_string();
    assert!(error.contains("Keras GaussianNoise"), "{error}");
}

/// Dropout here acts for all that read a layer, so it is not taken for one whose input others read as it is.
#[test]
fn dropout_that_not_all_readers_see_is_named() {
    const NAME: &str = "graph_branches.keras";
    let branches = network(NAME);
    assert_eq!(branches.file_dropout()[0], elements("dense", 0.5));
    let around = reconfigured(NAME, |model| {
        let layers = model["config"]["layers"].as_array_mut().unwrap();
        let add = layers.iter_mut().find(|layer| layer["class_name"] == "Add").unwrap();
        let text = add["inbound_nodes"].to_string().replace("\"dropout\"", "\"dense\"");
        add["inbound_nodes"] = serde_json::from_str(&text).unwrap();
    });
    let around = keras::from_bytes(NAME, &around).unwrap();
    let what = "Keras dropout of a value that other layers read without it".into();
    assert_eq!(around.file_dropout()[0], FileDropout::Other { layer: "dropout".into(), what });
}
