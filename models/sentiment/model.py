"""The Keras network and its safetensors file."""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers
from safetensors import safe_open
from safetensors.numpy import save_file

from reviews import HERE, LABELS, Review

MODEL_FILE = HERE / "sentiment.safetensors"


def build(
    num_embeddings: int,
    embedding_dim: int,
    hidden_size: int,
    embedding_dropout: float = 0.0,
    output_dropout: float = 0.0,
) -> keras.Model:
    """Token ids `[batch, time]`, padded at the end with 0, to probabilities `[batch, 2]`.

    The mask keeps the padding out of the LSTM, so a row's result does not depend on its batch.
    """
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(num_embeddings, embedding_dim, mask_zero=True, name="embedding")(tokens)
    x = layers.SpatialDropout1D(embedding_dropout)(x)
    x = layers.LSTM(hidden_size, name="lstm")(x)
    x = layers.Dropout(output_dropout)(x)
    x = layers.Dense(len(LABELS), activation="softmax", name="dense")(x)
    return keras.Model(tokens, x)


def token_ids(vectorizer: layers.TextVectorization, texts: list[str]) -> np.ndarray:
    """`[batch, time]`, padded at the end with 0 to the longest text."""
    return keras.ops.convert_to_numpy(vectorizer(texts)).astype(np.int32)


def texts_of(reviews: list[Review]) -> list[str]:
    return [review.text for review in reviews]


def one_hot(reviews: list[Review]) -> np.ndarray:
    return keras.utils.to_categorical([review.label for review in reviews], len(LABELS))


def save(model: keras.Model, vocabulary: list[str], path: Path) -> None:
    """Write the weights under PyTorch's names and layouts."""
    (embedding,) = model.get_layer("embedding").get_weights()
    kernel, recurrent_kernel, bias = model.get_layer("lstm").get_weights()
    dense_kernel, dense_bias = model.get_layer("dense").get_weights()
    hidden_size = recurrent_kernel.shape[0]

    # Keras' gate order i, f, c, o is PyTorch's i, f, g, o; only the matrices are transposed.
    tensors = {
        "embedding.weight": embedding,
        "lstm.weight_ih_l0": kernel.T,
        "lstm.weight_hh_l0": recurrent_kernel.T,
        "lstm.bias_ih_l0": bias,
        "lstm.bias_hh_l0": np.zeros_like(bias),
        "dense.weight": dense_kernel.T,
        "dense.bias": dense_bias,
    }
    network = {
        "format": 1,
        "layers": [
            {
                "type": "embedding",
                "name": "embedding",
                "num_embeddings": embedding.shape[0],
                "embedding_dim": embedding.shape[1],
            },
            {
                "type": "lstm",
                "name": "lstm",
                "input_size": embedding.shape[1],
                "hidden_size": hidden_size,
                "num_layers": 1,
                "bidirectional": False,
                "bias": True,
                "batch_first": True,
                "output": "last",
            },
            {
                "type": "dense",
                "name": "dense",
                "in_features": hidden_size,
                "out_features": len(LABELS),
                "bias": True,
                "activation": "linear",
            },
            {"type": "softmax"},
        ],
        "text": {
            "standardize": "lower_and_strip_punctuation",
            "split": "whitespace",
            "vocabulary": vocabulary,
        },
        "labels": LABELS,
    }
    save_file(
        {name: np.ascontiguousarray(tensor, dtype="<f4") for name, tensor in tensors.items()},
        path,
        metadata={"gatefold": json.dumps(network, ensure_ascii=False, separators=(",", ":"))},
    )


def load(path: Path = MODEL_FILE) -> tuple[keras.Model, layers.TextVectorization]:
    """The Keras network and vectorizer that a file written by `save` describes."""
    with safe_open(path, framework="numpy") as file:
        network = json.loads(file.metadata()["gatefold"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    model = build(*tensors["embedding.weight"].shape, hidden_size=tensors["lstm.weight_hh_l0"].shape[1])
    model.get_layer("embedding").set_weights([tensors["embedding.weight"]])
    model.get_layer("lstm").set_weights(
        [
            tensors["lstm.weight_ih_l0"].T,
            tensors["lstm.weight_hh_l0"].T,
            tensors["lstm.bias_ih_l0"] + tensors["lstm.bias_hh_l0"],
        ]
    )
    model.get_layer("dense").set_weights([tensors["dense.weight"].T, tensors["dense.bias"]])

    # get_vocabulary() leads with "" and "[UNK]", which the constructor adds by itself.
    return model, layers.TextVectorization(vocabulary=network["text"]["vocabulary"][2:])
