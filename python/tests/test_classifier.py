"""Texts in, labels out."""

import json
import pickle

import numpy as np
import pytest
from support import REPOSITORY, SENTIMENT, device, small

import gatefold_rnn as gf

TEXTS = ["a warm, funny and deeply moving film", "two hours i will never get back"]


def test_labels_and_probabilities():
    classifier = gf.Classifier(SENTIMENT, device=device())
    assert classifier.predict(TEXTS).tolist() == ["positive", "negative"]
    shares = classifier.predict_proba(TEXTS)
    assert shares.shape == (2, 2) and np.allclose(shares.sum(1), 1, atol=1e-6) and shares.dtype == np.float32
    assert classifier.classes_.tolist() == ["negative", "positive"]
    ids = classifier.encode(TEXTS[0])
    assert np.allclose(classifier.network([ids])[0], shares[0], atol=1e-6)
    assert classifier.network.encode(TEXTS)[0].tolist() == ids


def test_the_shipped_texts_agree_with_numpy_in_f64():
    """What `models/sentiment/expected.py` computed."""
    expected = json.loads((REPOSITORY / "models/sentiment/expected_texts.json").read_text())
    # Some say how a long text is made; one without a word is an error.
    expected = [one for one in expected if isinstance(one["text"], str) and one["ids"]]
    texts = [one["text"] for one in expected]
    shares = gf.Classifier(SENTIMENT, device=device()).predict_proba(texts)
    error = np.abs(shares - np.array([one["probabilities"] for one in expected])).max()
    assert error < 5e-7 and len(texts) > 20, (error, len(texts))


def test_other_sources_and_pickles():
    classifier = gf.Classifier(gf.load(SENTIMENT, device=device()), labels=["bad", "good"])
    assert classifier.predict(TEXTS).tolist() == ["good", "bad"]
    copy = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(copy.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert classifier.predict([]).shape == (0,) and classifier.predict_proba([]).shape == (0, 2)
    assert classifier.predict(np.array(TEXTS)).tolist() == ["good", "bad"]


@pytest.mark.parametrize(
    "given, kind, words",
    [
        ("one text", TypeError, "texts: expected a list of texts, got one text"),
        ([3], TypeError, "texts: expected a list of texts, got int in it"),
        (None, TypeError, "texts: expected a list of texts, got NoneType"),
        (["fine", "?!"], ValueError, "text 2: expected at least one word"),
        (["\ud800"], (TypeError, ValueError), None),
    ],
)
def test_wrong_texts(given, kind, words):
    with pytest.raises(kind, match=words):
        gf.Classifier(SENTIMENT, device="cpu").predict(given)


def test_networks_that_read_no_texts():
    with pytest.raises(ValueError, match="without class names"):
        gf.Classifier(small())
    with pytest.raises(ValueError, match="labels: expected 2"):
        gf.Classifier(SENTIMENT, labels=["one"])
    with pytest.raises(TypeError, match="source: expected a Network or a path, got int"):
        gf.Classifier(3)
