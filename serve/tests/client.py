"""tritonclient, a public client of the protocol, against `gatefold serve`: metadata, JSON, binary tensors, sequences, errors.

The outputs are compared with those of PyTorch in the goldens. Run by serve/client.sh.
"""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDENS = REPOSITORY / "tests" / "goldens"
MODEL = "lstm_three_layers"
TOLERANCE = 1e-5
passed = 0


def check(name: str, condition: bool) -> None:
    global passed
    if not condition:
        sys.exit(f"FAIL: {name}")
    passed += 1


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The f32 arrays of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    found = {}
    for name, facts in head.items():
        if name != "__metadata__" and facts["dtype"] == "F32":
            start, end = facts["data_offsets"]
            found[name] = np.frombuffer(data[8 + length + start : 8 + length + end], "<f4").reshape(facts["shape"])
    return found


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and float(np.abs(a - b).max()) < TOLERANCE


def tensor(x: np.ndarray, binary: bool = True) -> http.InferInput:
    kind = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES", "bool": "BOOL"}[str(x.dtype)]
    given = http.InferInput("input", list(x.shape), kind)
    given.set_data_from_numpy(x, binary_data=binary)
    return given


def run(client: http.InferenceServerClient) -> None:
    golden = arrays(GOLDENS / f"{MODEL}.golden.safetensors")
    x, y = golden["input"], golden["output"]
    check("live", client.is_server_live())
    check("ready", client.is_server_ready() and client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "1"))
    check("unknown model is not ready", not client.is_model_ready("none"))
    check("server", client.get_server_metadata()["name"] == "gatefold")
    check("index", {model["name"] for model in client.get_model_repository_index()} == {MODEL, "sentiment"})
    metadata = client.get_model_metadata(MODEL)
    check("metadata", metadata["inputs"][0]["name"] == "input" and metadata["outputs"][0]["shape"][-1] == y.shape[-1])

    for binary_in in (True, False):
        for binary_out in (True, False):
            wanted = [http.InferRequestedOutput("output", binary_data=binary_out)]
            answer = client.infer(MODEL, [tensor(x, binary_in)], outputs=wanted, request_id="17")
            check(f"PyTorch's output, binary {binary_in} and {binary_out}", close(answer.as_numpy("output"), y))
            check("id", answer.get_response()["id"] == "17")
    check("FP64", close(client.infer(MODEL, [tensor(x.astype("f8"))]).as_numpy("output"), y))
    planted = x.copy()
    planted[0, 0, 0] += 0.5
    check("the comparison can fail", not close(client.infer(MODEL, [tensor(planted)]).as_numpy("output"), y))

    # Every batch row as a sequence, step by step; ids are integers and texts.
    for row in range(x.shape[1]):
        name = row + 1 if row % 2 == 0 else f"row {row}"
        steps = []
        for step in range(x.shape[0]):
            frame = np.ascontiguousarray(x[step : step + 1, row : row + 1])
            last = step == x.shape[0] - 1
            answer = client.infer(MODEL, [tensor(frame)], sequence_id=name, sequence_start=step == 0, sequence_end=last)
            steps.append(answer.as_numpy("output"))
        check(f"sequence {name}", close(np.concatenate(steps), y[:, row : row + 1]))
    # All rows in one request.
    ids = http.InferInput("sequence_id", [x.shape[1]], "INT64")
    ids.set_data_from_numpy(np.arange(100, 100 + x.shape[1], dtype="i8"))
    steps = []
    for step in range(x.shape[0]):
        start = http.InferInput("sequence_start", [x.shape[1]], "BOOL")
        start.set_data_from_numpy(np.full(x.shape[1], step == 0))
        frame = np.ascontiguousarray(x[step : step + 1])
        steps.append(client.infer(MODEL, [tensor(frame), ids, start]).as_numpy("output"))
    check("all rows in one request", close(np.concatenate(steps), y))

    texts = http.InferInput("text", [2], "BYTES")
    texts.set_data_from_numpy(np.array(["a warm, funny film", "two hours i will never get back"], dtype=object))
    wanted = [http.InferRequestedOutput("output", class_count=1)]
    labels = client.infer("sentiment", [texts], outputs=wanted).as_numpy("output")
    names = [label.decode().split(":")[2] for label in labels.ravel()]
    check("labels of texts", names == ["positive", "negative"])

    pending = [client.async_infer(MODEL, [tensor(x)]) for _ in range(20)]
    check("several at once", all(close(answer.get_result().as_numpy("output"), y) for answer in pending))

    for name, words, call in [
        ("a type", "FP32", lambda: client.infer(MODEL, [tensor(x.astype("i8"))])),
        ("a shape", "[T, B,", lambda: client.infer(MODEL, [tensor(x[0])])),
        ("a model", "`none`", lambda: client.infer("none", [tensor(x)])),
        ("a sequence", "sequence_start", lambda: client.infer(MODEL, [tensor(x[:1, :1])], sequence_id=999)),
        ("an output", "`output`", lambda: client.infer(MODEL, [tensor(x)], outputs=[http.InferRequestedOutput("z")])),
        ("compression", "not compressed", lambda: client.infer(MODEL, [tensor(x)], request_compression_algorithm="gzip")),
    ]:
        try:
            call()
        except InferenceServerException as error:
            check(f"{name} is refused with words: {error}", words in str(error))
        else:
            check(f"{name} is refused", False)


def main() -> None:
    models = [GOLDENS / f"{MODEL}.safetensors", REPOSITORY / "models" / "sentiment" / "sentiment.safetensors"]
    command = [sys.argv[1], "serve", "--device", "cpu", "--listen", "127.0.0.1:0", *map(str, models)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = server.stderr.readline()
        check(f"the server starts: {line}", "http://" in line)
        with http.InferenceServerClient(line.split("http://")[1].split(",")[0], concurrency=8) as client:
            run(client)
    finally:
        server.terminate()
        code = server.wait(timeout=30)
    check("the server ends with exit code 0", code == 0)
    print(f"== {passed} checks with tritonclient passed")


if __name__ == "__main__":
    main()
