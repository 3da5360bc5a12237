"""Arrow batches in, Arrow batches with the answers out: for engines that divide a job among processes and machines."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._native import SequenceScorer

# What this process has loaded, by what it was loaded from.
_loaded: dict[tuple, SequenceScorer] = {}


class Scorer:
    """A network over the rows of a column, as `gatefold score` runs it: the same columns, the same bits.

    It is pickled by the path of its model, which each process loads once, at its first call.

    `column` is scored and `kind` says what it has: `"text"`, `"tokens"` (lists of ids) or `"features"` (lists of numbers,
    or of one list of numbers for each timestep). `keep` are the columns of the input that the output has too, all but the
    scored one if not given. `labels` name the classes of a network that has no names for them.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        column: str = "text",
        kind: str = "text",
        keep: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        device: str = "cpu",
        threads: int | None = 1,
    ) -> None:
        if kind not in ("text", "tokens", "features"):
            raise ValueError(f'kind: expected "text", "tokens" or "features", got {kind!r}')
        self.model = os.fspath(model)
        self.column, self.kind = column, kind
        self.keep = None if keep is None else list(keep)
        self.labels = None if labels is None else list(labels)
        self.device, self.threads = device, threads

    def _network(self) -> SequenceScorer:
        labels = None if self.labels is None else tuple(self.labels)
        key = (os.path.abspath(self.model), labels, self.device, self.threads)
        if key not in _loaded:
            _loaded[key] = SequenceScorer(self.model, self.labels, self.device, self.threads)
        return _loaded[key]

    def __call__(self, batch: Any) -> Any:
        """The kept columns of a `pyarrow.RecordBatch` or `pyarrow.Table` with the answers, as the same type."""
        import pyarrow as pa

        if not isinstance(batch, (pa.RecordBatch, pa.Table)):
            raise TypeError(f"batch: expected a pyarrow.RecordBatch or pyarrow.Table, got {type(batch).__name__}")
        names = batch.schema.names
        kept = [name for name in names if name != self.column] if self.keep is None else self.keep
        for name in [self.column, *kept]:
            if name not in names:
                raise ValueError(f"batch: expected a column `{name}`, got {', '.join(names)}")
        answers = self._answers(batch.column(self.column))
        for name in kept:
            if name in answers:
                raise ValueError(f"column `{name}`: the output has one of this name; choose others with keep")
        fields = [batch.schema.field(name) for name in kept]
        fields += [pa.field(name, array.type, nullable=False) for name, array in answers.items()]
        columns = [batch.column(name) for name in kept] + list(answers.values())
        return type(batch).from_arrays(columns, schema=pa.schema(fields))

    def batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        """As a call, of each batch: what `mapInArrow` of Spark takes."""
        return map(self, batches)

    def file(self, source: str | os.PathLike[str], target: str | os.PathLike[str]) -> str:
        """Scores the Parquet file `source` batch by batch and writes `target`, which is whole or not there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = Path(target)
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            with pq.ParquetFile(source) as read:
                columns = None if self.keep is None else [self.column, *self.keep]
                schema = self(read.schema_arrow.empty_table().select(columns or read.schema_arrow.names)).schema
                with pq.ParquetWriter(unfinished, schema) as writer:
                    for batch in read.iter_batches(4096, columns=columns):
                        writer.write_table(self(pa.Table.from_batches([batch])))
            os.replace(unfinished, target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        return str(target)

    def _answers(self, column: Any) -> dict[str, Any]:
        import pyarrow as pa

        network = self._network()
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        try:
            classes, numbers, ends = self._score(network, column)
        except ValueError as error:
            raise ValueError(f"column `{self.column}`: {error}") from None
        offsets = np.concatenate([[0], ends])
        floats = pa.list_(pa.field("element", pa.float32(), nullable=False))
        if classes is not None:
            shares = numbers.reshape(len(classes), len(network.labels))
            return {
                "prediction": pa.array(network.labels, pa.string()).take(pa.array(classes)),
                "probability": pa.array(shares[np.arange(len(classes)), classes]),
                "probabilities": _lists(offsets, pa.array(numbers), floats),
            }
        if network.output_is_sequence:
            size = network.output_size
            steps = _lists(np.arange(0, len(numbers) + 1, size), pa.array(numbers), floats)
            return {"output": _lists(offsets // size, steps, pa.list_(pa.field("element", floats, nullable=False)))}
        return {"output": _lists(offsets, pa.array(numbers), floats)}

    def _score(self, network: SequenceScorer, column: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        import pyarrow as pa
        import pyarrow.types as types

        if column.null_count:
            raise ValueError(f"expected values, got {column.null_count} nulls")
        kind = column.type
        if self.kind == "text":
            if types.is_dictionary(kind):
                kind = kind.value_type
            if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
                raise ValueError(f"expected text, got {kind}")
            column = column.cast(pa.large_string())
            offsets = np.frombuffer(column.buffers()[1] or bytes(8), np.int64)[column.offset :][: len(column) + 1]
            data = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
            return network.texts(data, offsets - offsets[0])
        values, offsets = _flat(column)
        if self.kind == "tokens":
            if not types.is_integer(values.type):
                raise ValueError(f"expected lists of integers, got {kind}")
            return network.tokens(_numpy(values), offsets)
        width = 1
        if _is_list(values.type):
            values, steps = _flat(values)
            widths = np.diff(steps)
            width = network.width
            if not (widths == width).all():
                row = int(np.searchsorted(offsets, int(np.argmax(widths != width)), side="right"))
                got = int(widths[np.argmax(widths != width)])
                raise ValueError(f"sequence {row}: expected lists of {width} numbers, got one of {got}")
            offsets = steps[offsets]
        elif network.width != 1 and not network.reads_rows:
            raise ValueError(f"expected one list of {network.width} numbers for each timestep, got {kind}")
        return network.features(_numpy(values.cast(pa.float32())), offsets)


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _flat(column: Any) -> tuple[Any, np.ndarray]:
    """The elements of all lists, and the offsets of each list among them."""
    import pyarrow as pa

    if not _is_list(column.type):
        raise ValueError(f"expected lists, got {column.type}")
    if column.null_count:
        raise ValueError("expected lists, got null among them")
    column = column.cast(pa.large_list(column.type.value_type))
    offsets = column.offsets.to_numpy()
    return column.values[offsets[0] : offsets[-1]] if len(offsets) else column.values, offsets - offsets[:1]


def _numpy(values: Any) -> np.ndarray:
    if values.null_count:
        raise ValueError("expected numbers, got null among them")
    return values.to_numpy(zero_copy_only=False)


def _lists(offsets: np.ndarray, values: Any, kind: Any) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)
