"""ONNX models of one recurrent node each, with what they make of an input: `onnx_nodes.zip` and `onnx_grid.zip`.

The first holds the ONNX project's own node tests for LSTM, GRU and RNN, all of them; their weights, which are graph
inputs there, are made initializers. The second holds random attributes and shapes. Case NAME is `NAME.onnx` and
`NAME.golden.safetensors` with X, sequence_lens, initial_h, initial_c as far as the case has them, and Y, Y_h, Y_c as
ONNX lays them out.

What is expected comes from the f64 implementation below, written from the operators' specification, and is compared
with ONNX Runtime's f32 answer wherever ONNX Runtime takes the model. Where they differ is counted and printed:

- ONNX Runtime refuses layout = 1; those cases are given to it transposed.
- Without `activation_alpha`, ONNX Runtime takes 0 for ThresholdedRelu, where the specification says the operator's own
  default, 1. For Affine and ScaledTanh, which are no operators, the specification has no default, so every case
  states them.
- `initial_h` of a row of length 0: the specification says nothing. Here Y_h is the initial state, since no step was
  taken; ONNX Runtime gives 0.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from golden import HERE, generator
from onnx_bundle import bundle, write_golden

warnings.filterwarnings("ignore")
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
INPUTS = {
    "LSTM": ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"],
    "GRU": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
    "RNN": ["X", "W", "R", "B", "sequence_lens", "initial_h"],
}
STATES = {"LSTM": ["initial_h", "initial_c"], "GRU": ["initial_h"], "RNN": ["initial_h"]}
# Parameters of each function: how many, and the operators' defaults.
PARAMETERS = {
    "Relu": [],
    "Tanh": [],
    "Sigmoid": [],
    "Softsign": [],
    "Softplus": [],
    "Affine": [1.0, 0.0],
    "LeakyRelu": [0.01],
    "ThresholdedRelu": [1.0],
    "ScaledTanh": [1.0, 1.0],
    "HardSigmoid": [0.2, 0.5],
    "Elu": [1.0],
}


def function(name: str, alpha: float, beta: float, x: np.ndarray) -> np.ndarray:
    return {
        "Relu": lambda: np.maximum(x, 0),
        "Tanh": lambda: np.tanh(x),
        "Sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "Softsign": lambda: x / (1 + np.abs(x)),
        "Softplus": lambda: np.logaddexp(x, 0),
        "Affine": lambda: alpha * x + beta,
        "LeakyRelu": lambda: np.where(x >= 0, x, alpha * x),
        "ThresholdedRelu": lambda: np.where(x > alpha, x, 0),
        "ScaledTanh": lambda: alpha * np.tanh(beta * x),
        "HardSigmoid": lambda: np.clip(alpha * x + beta, 0, 1),
        "Elu": lambda: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    }[name]()


class Node:
    """A recurrent node in f64."""

    def __init__(self, op: str, attributes: dict, given: dict[str, np.ndarray]):
        self.op, self.attributes = op, attributes
        self.given = {name: np.asarray(v, np.int64 if v.dtype.kind == "i" else np.float64) for name, v in given.items()}
        self.both = attributes.get("direction", "forward") == "bidirectional"
        self.directions = 2 if self.both else 1
        self.rows_first = attributes.get("layout", 0) == 1
        names = attributes.get("activations", DEFAULTS[op] * self.directions)
        names = [next(known for known in PARAMETERS if known.lower() == name.lower()) for name in names]
        # Parameters are taken by the functions that have them, in order.
        alphas = list(np.float32(attributes.get("activation_alpha", [])).astype(float))
        betas = list(np.float32(attributes.get("activation_beta", [])).astype(float))
        self.functions = []
        for name in names:
            defaults = [float(np.float32(x)) for x in PARAMETERS[name]]
            alpha = (alphas.pop(0) if alphas else defaults[0]) if len(defaults) > 0 else 0.0
            beta = (betas.pop(0) if betas else defaults[1]) if len(defaults) > 1 else 0.0
            self.functions.append(lambda x, n=name, a=alpha, b=beta: function(n, a, b, x))

    def run(self) -> dict[str, np.ndarray]:
        x = self.given["X"]
        x = x.transpose(1, 0, 2) if self.rows_first else x
        steps, batch, _ = x.shape
        hidden = self.attributes["hidden_size"]
        lengths = self.given.get("sequence_lens", np.full(batch, steps))
        y = np.zeros((steps, self.directions, batch, hidden))
        states = {name: np.zeros((self.directions, batch, hidden)) for name in STATES[self.op]}
        for name in states:
            if name in self.given:
                start = self.given[name]
                states[name] = (start.transpose(1, 0, 2) if self.rows_first else start).copy()
        for d in range(self.directions):
            backwards = d == 1 or self.attributes.get("direction") == "reverse"
            for row in range(batch):
                order = range(lengths[row])
                for t in reversed(order) if backwards else order:
                    state = [states[name][d, row] for name in states]
                    new = self.step(d, x[t, row], *state)
                    for name, value in zip(states, new):
                        states[name][d, row] = value
                    y[t, d, row] = new[0]
        results = {"Y": y, **{f"Y_{name[-1]}": state for name, state in states.items()}}
        if self.rows_first:
            results = {k: v.transpose(2, 0, 1, 3) if k == "Y" else v.transpose(1, 0, 2) for k, v in results.items()}
        return results

    def step(self, d: int, x: np.ndarray, h: np.ndarray, c: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        gates, hidden = GATES[self.op], self.attributes["hidden_size"]
        w = self.given["W"][d].reshape(gates, hidden, -1)
        r = self.given["R"][d].reshape(gates, hidden, hidden)
        b = self.given.get("B", np.zeros((self.directions, 2 * gates * hidden)))[d].reshape(2, gates, hidden)
        count = len(DEFAULTS[self.op])
        f, g, *rest = [*self.functions[d * count : (d + 1) * count], None][:3] if count < 3 else self.functions[d * 3 : d * 3 + 3]
        clip = self.attributes.get("clip")
        bounded = (lambda v: np.clip(v, -np.float32(clip), np.float32(clip))) if clip else (lambda v: v)
        if self.op == "RNN":
            return (f(bounded(w[0] @ x + r[0] @ h + b[0, 0] + b[1, 0])),)
        if self.op == "GRU":
            z = f(bounded(w[0] @ x + r[0] @ h + b[0, 0] + b[1, 0]))
            reset = f(bounded(w[1] @ x + r[1] @ h + b[0, 1] + b[1, 1]))
            if self.attributes.get("linear_before_reset", 0):
                n = g(bounded(w[2] @ x + reset * (r[2] @ h + b[1, 2]) + b[0, 2]))
            else:
                n = g(bounded(w[2] @ x + r[2] @ (reset * h) + b[1, 2] + b[0, 2]))
            return ((1 - z) * n + z * h,)
        p = self.given.get("P", np.zeros((self.directions, 3 * hidden)))[d].reshape(3, hidden)
        sums = [w[k] @ x + r[k] @ h + b[0, k] + b[1, k] for k in range(4)]  # i, o, f, c
        i = f(bounded(sums[0] + p[0] * c))
        forget = 1 - i if self.attributes.get("input_forget", 0) else f(bounded(sums[2] + p[2] * c))
        c = forget * c + i * g(bounded(sums[3]))
        o = f(bounded(sums[1] + p[1] * c))
        return o * rest[0](c), c


def model(op: str, attributes: dict, weights: dict, inputs: dict, outputs: list[str], opset: int) -> onnx.ModelProto:
    given = {**weights, **inputs}
    names = [name if name in given else "" for name in INPUTS[op]]
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, outputs, name="recurrent", **attributes)
    kind = {"f": TensorProto.FLOAT, "i": TensorProto.INT32}
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info(name, kind[v.dtype.kind], v.shape) for name, v in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "Y" else 3)) for name in outputs if name],
        [numpy_helper.from_array(v, name) for name, v in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def by_runtime(op: str, attributes: dict, weights: dict, inputs: dict, outputs: list[str]) -> dict[str, np.ndarray]:
    """ONNX Runtime's answer, in the case's own layout."""
    plain = {k: v for k, v in attributes.items() if k != "layout"}
    rows_first = attributes.get("layout", 0) == 1
    turned = {k: v.transpose(1, 0, 2).copy() if rows_first and v.ndim == 3 else v for k, v in inputs.items()}
    session = onnxruntime.InferenceSession(model(op, plain, weights, turned, outputs, 14).SerializeToString())
    results = dict(zip([o for o in outputs if o], session.run(None, turned)))
    if rows_first:
        results = {k: v.transpose(2, 0, 1, 3) if k == "Y" else v.transpose(1, 0, 2) for k, v in results.items()}
    return results


def random_case(number: int) -> tuple[str, dict, dict, dict, list[str], int]:
    rng = generator(f"onnx {number}")

    def lot(share: float) -> bool:
        return rng.random() < share

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    op = ("LSTM", "GRU", "RNN")[number % 3]
    steps, batch, width, hidden = (int(rng.integers(1, n)) for n in (8, 5, 7, 10))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    attributes: dict = {"hidden_size": hidden}
    if direction != "forward" or lot(0.5):
        attributes["direction"] = direction
    if lot(0.6):
        names = [str(rng.choice(list(PARAMETERS))) for _ in range(directions * len(DEFAULTS[op]))]
        attributes["activations"] = [name.lower() if op != "RNN" and lot(0.1) else name for name in names]
        # Affine and ScaledTanh have no default.
        if lot(0.7) or {"Affine", "ScaledTanh"} & set(names):
            takers = [name for name in names if PARAMETERS[name]]
            attributes["activation_alpha"] = [float(np.float32(rng.uniform(0.1, 1.2))) for _ in takers]
            takers = [name for name in names if len(PARAMETERS[name]) > 1]
            attributes["activation_beta"] = [float(np.float32(rng.uniform(0.1, 0.9))) for _ in takers]
            attributes = {k: v for k, v in attributes.items() if v != []}
    if lot(0.3):
        attributes["clip"] = float(np.float32(rng.uniform(0.1, 0.8)))
    if op == "LSTM" and lot(0.25):
        attributes["input_forget"] = 1
    if op == "GRU" and lot(0.5):
        attributes["linear_before_reset"] = 1
    if lot(0.3):
        attributes["layout"] = 1
    rows = GATES[op] * hidden
    weights = {"W": draw(directions, rows, width), "R": draw(directions, rows, hidden)}
    if lot(0.7):
        weights["B"] = draw(directions, 2 * rows)
    if op == "LSTM" and lot(0.4):
        weights["P"] = draw(directions, 3 * hidden)

    def turned(array: np.ndarray) -> np.ndarray:
        return array.transpose(1, 0, 2).copy() if attributes.get("layout") else array

    inputs = {"X": turned(draw(steps, batch, width) * 3)}
    if lot(0.5):
        lengths = [0, 1, steps, int(rng.integers(0, steps + 1))]
        inputs["sequence_lens"] = rng.permutation(lengths)[:batch].astype(np.int32)
    for name in STATES[op]:
        if lot(0.5):
            inputs[name] = turned(draw(directions, batch, hidden) * 2)
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    return op, attributes, weights, inputs, outputs, int(rng.choice([14, 22]))


def store(folder: Path, name: str, made: onnx.ModelProto, inputs: dict, results: dict) -> None:
    onnx.save(made, folder / f"{name}.onnx")
    floats = {k: v.astype(np.float32) for k, v in results.items()}
    write_golden(folder / f"{name}.golden.safetensors", {**inputs, **floats})


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return np.allclose(a, b, rtol=1e-4, atol=1e-5)


def grid(folder: Path) -> None:
    differing = empty = unstated = 0
    for number in range(240):
        op, attributes, weights, inputs, outputs, opset = random_case(number)
        results = Node(op, attributes, {**weights, **inputs}).run()
        single = by_runtime(op, attributes, weights, inputs, outputs)
        names = [name.lower() for name in attributes.get("activations", [])]
        if "thresholdedrelu" in names and "activation_alpha" not in attributes:
            unstated += 1
            single = results
        for name, expected in results.items():
            got = single[name]
            if "sequence_lens" in inputs and name != "Y" and (inputs["sequence_lens"] == 0).any():
                axis = 0 if attributes.get("layout") else 1
                rows = np.flatnonzero(inputs["sequence_lens"] == 0)
                if not close(np.take(got, rows, axis), np.take(expected, rows, axis)):
                    empty += 1
                keep = np.flatnonzero(inputs["sequence_lens"] > 0)
                got, expected = np.take(got, keep, axis), np.take(expected, keep, axis)
            if not close(got, expected):
                differing += 1
                print("differs", number, name, op, attributes, sorted(inputs), float(np.abs(got - expected).max()))
        store(folder, f"{number:03}_{op.lower()}", model(op, attributes, weights, inputs, outputs, opset), inputs, results)
    print(f"{differing} tensors differ from ONNX Runtime, {empty} in rows of length 0; "
          f"{unstated} cases with ThresholdedRelu's own default not compared")


def own_tests(folder: Path) -> None:
    from onnx.backend.test.case.node import collect_testcases

    counts = dict.fromkeys(GATES, 0)
    # One call for all: the cases are made as their modules are first imported.
    for case in collect_testcases(""):
        node = case.model.graph.node[0] if case.model and len(case.model.graph.node) == 1 else None
        op = node.op_type if node else ""
        if op in GATES:
            (given, expected), *more = case.data_sets
            assert not more
            names = [i.name for i in case.model.graph.input]
            roles = dict(zip(node.input, INPUTS[op]))
            given = {roles[name]: np.asarray(value) for name, value in zip(names, given)}
            weights = {k: v for k, v in given.items() if k in ("W", "R", "B", "P")}
            inputs = {k: v for k, v in given.items() if k not in weights}
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
            outputs = [o and role for o, role in zip(node.output, ["Y", "Y_h", "Y_c"])]
            results = dict(zip([o for o in outputs if o], map(np.asarray, expected)))
            exact = Node(op, attributes, given).run()
            for name, value in results.items():
                assert close(exact[name], value), (case.name, name)
            opset = case.model.opset_import[0].version if case.model.opset_import else 22
            store(folder, case.name, model(op, attributes, weights, inputs, outputs, min(opset, 22)), inputs, results)
            counts[op] += 1
    print("node tests of the ONNX project:", counts)


def main() -> None:
    for kind, make in [("nodes", own_tests), ("grid", grid)]:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            bundle(Path(folder), HERE / f"onnx_{kind}.zip")


if __name__ == "__main__":
    sys.exit(main())
