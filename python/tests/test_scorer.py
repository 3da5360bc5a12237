"""Arrow batches in, Arrow batches out."""

import os
import pickle
import subprocess

import numpy as np
import pytest
from support import SENTIMENT, framework, lstm

import gatefold_rnn as gf

pa = framework("pyarrow")
pq = framework("pyarrow.parquet")

TEXTS = ["a warm, funny and deeply moving film", "two hours i will never get back", "fine"]


def vectors(**options):
    return gf.network([lstm(**options)], seed=1, device="cpu")


def ragged(lists: list, kind) -> pa.Array:
    return pa.array(lists, kind)


def test_texts_are_what_a_classifier_says():
    scorer = gf.Scorer(SENTIMENT)
    batch = pa.RecordBatch.from_pydict({"id": [1, 2, 3], "text": TEXTS, "n": [None, 2.5, 3.5]})
    scores = scorer(batch)
    assert isinstance(scores, pa.RecordBatch)
    assert scores.schema.names == ["id", "n", "prediction", "probability", "probabilities"]
    classifier = gf.Classifier(SENTIMENT, device="cpu")
    shares = classifier.predict_proba(TEXTS)
    assert scores["prediction"].to_pylist() == classifier.predict(TEXTS).tolist()
    assert np.array_equal(np.array(scores["probabilities"].to_pylist(), np.float32), shares)
    assert np.array_equal(scores["probability"].to_numpy(), shares.max(1))
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"text": pa.array(TEXTS).cast(kind)})
        assert scorer(table)["probabilities"].to_pylist() == scores["probabilities"].to_pylist()
    # A part of a batch, and batches without rows.
    assert scorer(batch.slice(1, 1))["probability"].to_pylist() == scores["probability"].to_pylist()[1:2]
    assert scorer(batch.slice(0, 0)).num_rows == 0
    assert scorer(batch.schema.empty_table()).schema == scores.schema
    assert [one.num_rows for one in scorer.batches(iter([batch, batch]))] == [3, 3]


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint16())])
def test_tokens(kind):
    ids = [[12, 7, 104], [3], [9999, 1]]
    scores = gf.Scorer(SENTIMENT, column="ids", kind="tokens", labels=["bad", "good"])(pa.table({"ids": ragged(ids, kind)}))
    net = gf.load(SENTIMENT, device="cpu")
    assert scores["probabilities"].to_pylist() == [net([row])[0].tolist() for row in ids]
    assert set(scores["prediction"].to_pylist()) <= {"bad", "good"}


@pytest.mark.parametrize("output", ["last", "sequence"])
def test_features(tmp_path, output):
    net = vectors(output=output)
    net.save(tmp_path / "model.safetensors")
    scorer = gf.Scorer(tmp_path / "model.safetensors", column="x", kind="features", keep=[])
    random = np.random.default_rng(1)
    rows = [random.random((steps, 3)).round(3) for steps in (4, 1, 4, 2)]
    expected = [net(row[:, None])[:, 0] if output == "sequence" else net(row[:, None])[0] for row in rows]
    lists = [row.tolist() for row in rows]
    for inner in (pa.list_(pa.float64()), pa.list_(pa.float32(), 3)):
        got = scorer(pa.table({"x": pa.array(lists, pa.list_(inner))}))["output"].to_pylist()
        assert all(np.array_equal(np.array(one, np.float32), other) for one, other in zip(got, expected)), inner
    sliced = pa.table({"x": pa.array(lists, pa.list_(pa.list_(pa.float32())))}).slice(1, 2)
    assert np.array_equal(np.array(scorer(sliced)["output"].to_pylist()[0], np.float32), expected[1])


def test_pickles_are_small_and_load_once():
    scorer = pickle.loads(pickle.dumps(gf.Scorer(SENTIMENT)))
    assert len(pickle.dumps(scorer)) < 1000
    assert scorer._network() is gf.Scorer(SENTIMENT)._network() is not gf.Scorer(SENTIMENT, threads=2)._network()


@pytest.mark.parametrize(
    "column, options, words",
    [
        (["fine", None], {}, "column `x`: expected values, got 1 nulls"),
        (["fine", "?!"], {}, "column `x`: text 2: expected at least one word"),
        ([1, 2], {}, "column `x`: expected text, got int64"),
        (["a"], {"kind": "tokens"}, "expected lists, got string"),
        ([[1], [10000]], {"kind": "tokens"}, "sequence 2: expected token ids below 10000, got 10000 at step 0"),
        ([[1], []], {"kind": "tokens"}, "sequence 2: expected at least one timestep, got none"),
        ([[1], [None]], {"kind": "tokens"}, "expected numbers, got null among them"),
        ([[-1]], {"kind": "tokens"}, "integers from 0"),
        ([[0.5]], {"kind": "tokens"}, "expected lists of integers"),
        ([[0.5]], {"kind": "features"}, "expected"),
        (["fine"], {"keep": ["y"]}, "expected a column `y`, got x"),
        (["fine"], {"column": "y"}, "expected a column `y`, got x"),
        (["fine"], {"kind": "words"}, "kind: expected \"text\""),
        (["fine"], {"labels": ["one"]}, "labels: expected 2"),
    ],
)
def test_wrong_input(column, options, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        gf.Scorer(SENTIMENT, **{"column": "x", **options})(pa.table({"x": column}))


def test_other_wrong_input(tmp_path):
    vectors().save(tmp_path / "model.safetensors")
    scorer = gf.Scorer(tmp_path / "model.safetensors", column="x", kind="features")
    with pytest.raises(ValueError, match="sequence 2: expected lists of 3 numbers, got one of 2"):
        scorer(pa.table({"x": [[[1.0, 2, 3]], [[1.0, 2, 3], [1.0, 2]]]}))
    with pytest.raises(ValueError, match="expected one list of 3 numbers for each timestep"):
        scorer(pa.table({"x": [[1.0, 2, 3]]}))
    with pytest.raises(ValueError, match="finite numbers, got NaN at step 0"):
        scorer(pa.table({"x": [[[1.0, float("nan"), 3]]]}))
    with pytest.raises(TypeError, match="expected a pyarrow.RecordBatch or pyarrow.Table, got list"):
        scorer([1])
    with pytest.raises(ValueError, match="the output has one of this name"):
        gf.Scorer(SENTIMENT)(pa.table({"text": TEXTS, "probability": [1, 2, 3]}))
    with pytest.raises(FileNotFoundError):
        gf.Scorer(tmp_path / "gone.safetensors")(pa.table({"text": TEXTS}))


def test_a_file_is_that_of_the_command(tmp_path):
    """GATEFOLD_COMMAND is the command `gatefold`; `test.sh` of the repository has one."""
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(["a", "warm", "film", "bored", "never", "zzz"], size)) for size in random.integers(1, 30, 9000)]
    pq.write_table(pa.table({"id": range(9000), "text": texts}), tmp_path / "in.parquet", row_group_size=1000)
    gf.Scorer(SENTIMENT).file(tmp_path / "in.parquet", tmp_path / "here.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.parquet", "in.parquet"]
    command = os.environ.get("GATEFOLD_COMMAND")
    if command is None:
        pytest.skip("NOT RUN: GATEFOLD_COMMAND names no command gatefold to compare with")
    arguments = [command, "score", tmp_path / "in.parquet", tmp_path / "there.parquet", "--device", "cpu"]
    subprocess.run(arguments, check=True, capture_output=True, timeout=120)
    here, there = (pq.read_table(tmp_path / name).replace_schema_metadata() for name in ("here.parquet", "there.parquet"))
    assert here.schema == there.schema and here.equals(there)
    # The comparison can fail.
    assert not here.equals(there.slice(1)) and not here.equals(there.set_column(0, "id", pa.array(range(1, 9001))))
