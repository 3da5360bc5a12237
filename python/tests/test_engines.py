"""The snippets of `docs/many-machines.md`, as they stand, on a real cluster of this machine; one worker is killed in the middle.

GATEFOLD_ENGINES names the engines (dask), GATEFOLD_ENGINE_ROWS the rows (20,000).
"""

from __future__ import annotations

import os
import shutil
import sys
import time

import numpy as np
import pytest
from cluster import Job
from support import REPOSITORY, SENTIMENT, framework
from test_documents import snippets

import gatefold_rnn as gf

pa = framework("pyarrow")
pq = framework("pyarrow.parquet")
SNIPPETS = dict(snippets((REPOSITORY / "docs" / "many-machines.md").read_text(encoding="utf-8")))
ENGINES = os.environ.get("GATEFOLD_ENGINES", "dask").split(",")
ROWS = int(os.environ.get("GATEFOLD_ENGINE_ROWS", "20000"))
FILES = 20
# What must be installed, and the words of a worker's command line; none where a job does not survive the loss of one.
NEEDS = {"dask": "distributed", "ray": "ray", "spark": "pyspark", "daft": "daft"}
WORKERS = {"dask": "spawn_main", "ray": "ray::MapWorker", "spark": "pyspark.daemon", "daft": None}
# On a busy machine processes start slowly.
PATIENCE = {
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_raylet_start_wait_time_s": "600",
    "PYSPARK_PYTHON": sys.executable,
}
LONGEST = 1200


def write_rows(folder, rows: int) -> None:
    """Files of ids and token lists of 22 on average."""
    random = np.random.default_rng(1)
    for number, ids in enumerate(np.array_split(np.arange(rows), FILES)):
        lengths = np.maximum(random.poisson(22, len(ids)), 1)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        tokens = pa.array(random.integers(1, 10_000, offsets[-1]).astype(np.int32))
        table = pa.table({"id": pa.array(ids), "tokens": pa.ListArray.from_arrays(pa.array(offsets), tokens)})
        pq.write_table(table, folder / f"{number:02}.parquet")


def read(folder) -> pa.Table:
    """All rows in the order of their ids."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet")) if not path.name.startswith(".")]
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables], promote_options="permissive")
    if "answer" in table.column_names:
        table = table.flatten().rename_columns([name.removeprefix("answer.") for name in table.flatten().column_names])
    return table.sort_by("id").combine_chunks()


def different(got: pa.Table, expected: pa.Table) -> list[str]:
    """The columns of `got` that are not those of `expected`, bit by bit."""
    if got.num_rows != expected.num_rows:
        return [f"{got.num_rows} rows"]
    found = []
    for name in got.column_names:
        one, other = (table.column(name).combine_chunks() for table in (got, expected))
        if name == "probabilities":
            one, other = one.flatten(), other.flatten()
        if name in ("probability", "probabilities"):
            same = one.to_numpy().tobytes() == other.to_numpy().tobytes()
        else:
            same = one.to_pylist() == other.to_pylist()
        if not same:
            found.append(name)
    return found


def has_written(folder) -> int:
    return sum(1 for path in folder.glob("**/*.parquet") if not path.name.startswith("."))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cluster_that_loses_a_worker(engine, tmp_path):
    framework(NEEDS[engine])
    (tmp_path / "rows").mkdir()
    (tmp_path / "alone").mkdir()
    write_rows(tmp_path / "rows", ROWS)
    shutil.copy(SENTIMENT, tmp_path / "model.safetensors")
    scorer = gf.Scorer(tmp_path / "model.safetensors", column="tokens", kind="tokens")
    start, cpu = time.monotonic(), time.process_time()
    for path in (tmp_path / "rows").iterdir():
        scorer.file(path, tmp_path / "alone" / path.name)
    print(f"\none process: {time.monotonic() - start:.1f} s, {time.process_time() - cpu:.1f} CPU seconds, {ROWS} rows")
    expected = read(tmp_path / "alone")

    job, killed, sampled = Job(SNIPPETS[engine], tmp_path, PATIENCE), None, 0.0
    words, done = WORKERS[engine], 0
    try:
        while job.running():
            assert time.monotonic() - job.started < LONGEST, "the job hangs"
            done = has_written(tmp_path / "scores")
            # Spark's files appear at the end.
            working = bool(words and job.workers(words)) if engine == "spark" else done >= 1
            if words and killed is None and working:
                if engine == "spark":
                    time.sleep(3)
                killed = job.kill(words)
                print(f"{engine}: killed process {killed} when {done} files were there")
                assert done < FILES
            if time.monotonic() - sampled > 0.5:
                job.sample()
                sampled = time.monotonic()
            time.sleep(0.005)
        costs = job.costs()
    finally:
        said = job.end()
    assert job.process.returncode == 0, said
    assert (killed is None) == (words is None), said
    print(f"{engine}: {costs}, process {killed} killed")
    got = read(tmp_path / "scores")
    assert different(got, expected) == []
    # The comparison can fail.
    changed = got.set_column(1, "prediction", pa.array(got["prediction"].to_pylist()[::-1]))
    assert different(changed, expected) == ["prediction"] and different(got[1:], expected) == [f"{ROWS - 1} rows"]


def test_every_engine_has_a_snippet():
    assert set(SNIPPETS) == set(NEEDS) == set(WORKERS)
