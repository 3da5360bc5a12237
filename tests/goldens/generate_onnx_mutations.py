"""Models of the other ONNX bundles with one thing changed at a time, and what ONNX Runtime makes of each.

    python generate_onnx_mutations.py          # writes onnx_mutations.zip
    python generate_onnx_mutations.py 16 files # of onnx_files.zip, 16 of each model, loops and branches among them:
                                               # writes onnx_file_mutations.zip
    python generate_onnx_mutations.py 40 voice # of onnx_voice.zip, with a state that is not 0:
                                               # writes onnx_voice_mutations.zip

A change is to one attribute, one shape, one name or one initializer. An entry of the bundle is `MODEL.safetensors`:
for every change a tensor `NUMBER CHANGE|model` of bytes and, if ONNX Runtime runs it, its outputs as
`NUMBER CHANGE|NAME`; without outputs ONNX Runtime refuses it. All changes of a model lie side by side, so that
deflate sees what they share. Left out is what ONNX Runtime does by a rule of its own, so that it says nothing:

- what it has not implemented (layout 1, some element types), or crashes on;
- a recurrent node without `hidden_size`, which the specification lets out and ONNX Runtime refuses;
- a change to the number of timesteps or rows that a graph states: gatefold takes any;
- states and lengths of the caller that a changed node no longer reads: they are no part of the network;
- a branch of a voice detector that is not taken, which gatefold does not read;
- rows of length 0, and activations whose parameters have no default in the specification.
"""

import copy
import io
import json
import multiprocessing
import os
import pickle
import random
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto, helper, numpy_helper

EPOCH = (1980, 1, 1, 0, 0, 0)
HERE = Path(__file__).resolve().parent
# Of every model so many changes at most, chosen evenly.
MOST = int(sys.argv[1]) if len(sys.argv) > 1 else 60
GRID_EVERY = 6
FILES, VOICE = sys.argv[2:] == ["files"], sys.argv[2:] == ["voice"]
BUNDLES = () if VOICE else ("onnx_files.zip",) if FILES else ("onnx_models.zip", "onnx_nodes.zip", "onnx_grid.zip")

OTHER_OPERATOR = {
    "LSTM": "GRU", "GRU": "LSTM", "RNN": "LSTM", "Add": "Sub", "Sub": "Add", "Mul": "Add", "Relu": "Tanh", "Tanh": "Relu",
    "Sigmoid": "Tanh", "MatMul": "Add", "Gemm": "MatMul", "Softmax": "LogSoftmax", "ReduceMean": "ReduceMax",
    "ReduceMax": "ReduceMean", "Squeeze": "Unsqueeze", "Conv": "MaxPool", "MaxPool": "AveragePool",
    "AveragePool": "MaxPool", "Slice": "Squeeze", "Gather": "Squeeze", "Concat": "Add",
}
STRINGS = {
    b"forward": [b"reverse", b"bidirectional", b"sideways"], b"reverse": [b"forward", b"bidirectional"],
    b"bidirectional": [b"forward", b"reverse"], b"none": [b"tanh", b"x"], b"NOTSET": [b"SAME_UPPER", b"VALID", b"x"],
}
# Attributes that a recurrent node may have and this one has not.
MISSING = {
    "LSTM": {"layout": 1, "clip": 0.3, "input_forget": 1, "direction": "reverse", "hidden_size": 3},
    "GRU": {"layout": 1, "clip": 0.3, "linear_before_reset": 1, "direction": "reverse", "hidden_size": 3},
    "RNN": {"clip": 0.3, "direction": "reverse", "activations": ["Relu"], "hidden_size": 3},
}


def tensors_of(path_bytes):
    """What a golden holds."""
    size = int.from_bytes(path_bytes[:8], "little")
    header = json.loads(path_bytes[8 : 8 + size])
    kinds = {"F32": "<f4", "I32": "<i4"}
    found = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        found[name] = np.frombuffer(path_bytes[8 + size :][start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return found


def attribute_changes(node):
    for at, attribute in enumerate(node.attribute):
        def changed(what, edit, at=at):
            def apply(node):
                edit(node.attribute[at])
            return f"{node.op_type}.{attribute.name} {what}", apply
        name = attribute.name

        def removed(node, at=at):
            del node.attribute[at]
        if name != "hidden_size" and not name.startswith("activation_"):
            yield f"{node.op_type}.{name} removed", removed
        yield changed("renamed", lambda a: setattr(a, "name", a.name + "x"))
        kind = attribute.type
        if kind == AttributeProto.INT:
            for new in sorted({attribute.i + 1, attribute.i - 1, 1 - attribute.i} - {attribute.i}):
                yield changed(f"= {new}", lambda a, new=new: setattr(a, "i", new))
            def to_float(a):
                value = float(a.i)
                a.ClearField("i")
                a.type, a.f = AttributeProto.FLOAT, value
            yield changed("as float", to_float)
        elif kind == AttributeProto.FLOAT:
            for new in (attribute.f * 2 + 0.125, -attribute.f - 0.5):
                yield changed(f"= {new}", lambda a, new=new: setattr(a, "f", new))
            def to_int(a):
                a.ClearField("f")
                a.type, a.i = AttributeProto.INT, 1
            yield changed("as int", to_int)
        elif kind == AttributeProto.STRING:
            for new in STRINGS.get(attribute.s, [b"x"]):
                yield changed(f"= {new.decode()}", lambda a, new=new: setattr(a, "s", new))
        elif kind == AttributeProto.INTS and attribute.ints:
            def first(a):
                a.ints[0] += 1
            def last(a):
                a.ints[-1] += 1
            def below(a):
                a.ints[-1] -= 1
            yield changed("first + 1", first)
            yield changed("last + 1", last)
            yield changed("last - 1", below)
            yield changed("one more", lambda a: a.ints.append(1))
            yield changed("one less", lambda a: a.ints.pop())
            if len(attribute.ints) > 1:
                def turned(a):
                    numbers = list(a.ints)[::-1]
                    del a.ints[:]
                    a.ints.extend(numbers)
                yield changed("reversed", turned)
        elif kind == AttributeProto.FLOATS and attribute.floats:
            def more(a):
                a.floats[0] += 0.375
            yield changed("first + 0.375", more)
            yield changed("one more", lambda a: a.floats.append(0.5))
        elif kind == AttributeProto.STRINGS and attribute.strings:
            def other(a):
                a.strings[0] = b"Relu" if a.strings[0] != b"Relu" else b"Tanh"
            def bogus(a):
                a.strings[-1] = b"Nothing"
            yield changed("first other", other)
            yield changed("last unknown", bogus)
            yield changed("one less", lambda a: a.strings.pop())
        elif kind == AttributeProto.TENSOR:
            for what, edit in tensor_changes(attribute.t):
                yield changed(what, lambda a, edit=edit: edit(a.t))
    if node.attribute:
        yield f"{node.op_type}.{node.attribute[0].name} twice", lambda node: node.attribute.append(node.attribute[0])
    present = {a.name for a in node.attribute}
    for name, value in MISSING.get(node.op_type, {}).items():
        if name not in present:
            yield f"{node.op_type}.{name} added", lambda node, n=name, v=value: node.attribute.append(helper.make_attribute(n, v))


def replaced(tensor, array):
    new = numpy_helper.from_array(np.ascontiguousarray(array), tensor.name)
    tensor.CopyFrom(new)


def tensor_changes(tensor):
    array = numpy_helper.to_array(tensor)
    shape = list(array.shape)
    def dims(new):
        def edit(t):
            del t.dims[:]
            t.dims.extend(new)
        return edit
    def data(new):
        return lambda t: replaced(t, new)
    if array.size:
        nudged = array.copy().reshape(-1)
        nudged[0] = nudged[0] + (1 if array.dtype.kind in "iu" else 0.25) if array.dtype.kind != "b" else not nudged[0]
        yield "first number changed", data(nudged.reshape(shape))
        nudged = array.copy().reshape(-1)
        nudged[-1] = nudged[-1] - (1 if array.dtype.kind in "iu" else 0.25) if array.dtype.kind != "b" else not nudged[-1]
        yield "last number changed", data(nudged.reshape(shape))
        yield "zeros", data(np.zeros_like(array))
        yield "a number less", lambda t: replaced(t, array.reshape(-1)[:-1]) or dims(shape)(t)
    if shape[::-1] != shape:
        yield "shape reversed", dims(shape[::-1])
    if len(shape) != 1:
        yield "shape flat", dims([array.size])
    yield "shape one axis more", dims([1] + shape)
    if shape and shape[0] == 1:
        yield "shape one axis less", dims(shape[1:])
    if shape:
        for axis in sorted({0, len(shape) - 1, max(0, len(shape) - 2)}):
            longer = np.concatenate([array, np.take(array, [0], axis)] if array.shape[axis] else [array], axis)
            yield f"axis {axis} longer", data(longer)
            if array.shape[axis] > 1:
                yield f"axis {axis} shorter", data(np.take(array, range(array.shape[axis] - 1), axis))
        yield "size not of its numbers", dims(shape[:-1] + [shape[-1] + 1])
    other = {"f": np.float64, "i": np.int32 if array.dtype == np.int64 else np.int64, "b": np.int64}[array.dtype.kind]
    yield "other type", data(array.astype(other))
    if array.dtype.kind == "f":
        yield "half", data(array.astype(np.float16))


def changes(model):
    """Every change as a name and an edit of a copy."""
    graph = model.graph
    values = [i.name for i in graph.initializer] + [i.name for i in graph.input]
    for node in graph.node:
        values += list(node.output)
    for index, node in enumerate(graph.node):
        for what, edit in attribute_changes(node):
            yield f"node {index} {what}", lambda m, index=index, edit=edit: edit(m.graph.node[index])
        other = OTHER_OPERATOR.get(node.op_type)
        if other:
            yield f"node {index} {node.op_type} is {other}", lambda m, i=index, o=other: setattr(m.graph.node[i], "op_type", o)
        for at, name in enumerate(node.input):
            if not name or name in ("sequence_lens", "initial_h", "initial_c"):
                continue
            def swap(m, new, index=index, at=at):
                m.graph.node[index].input[at] = new
            yield f"node {index} {node.op_type} input {at} nowhere", lambda m, swap=swap: swap(m, "nowhere")
            yield f"node {index} {node.op_type} input {at} left out", lambda m, swap=swap: swap(m, "")
            others = [v for v in values if v and v != name]
            chosen = random.Random(f"{index} {at} {name}").sample(others, min(2, len(others)))
            for new in chosen:
                yield f"node {index} {node.op_type} input {at} is {new}", lambda m, swap=swap, new=new: swap(m, new)
        def like_input(m, index=index):
            m.graph.node[index].output[0] = m.graph.input[0].name
        if graph.input:
            yield f"node {index} {node.op_type} output is the input", like_input
        if node.op_type == "Dropout":
            def training(m, index=index):
                m.graph.initializer.append(numpy_helper.from_array(np.array(True), "training"))
                m.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
                m.graph.node[index].input[1:] = ["half", "training"]
            yield f"node {index} Dropout in training", training
        def extra(m, index=index, name=node.input[0] if node.input else ""):
            m.graph.node[index].input.append(name)
        yield f"node {index} {node.op_type} one input more", extra
    for index, tensor in enumerate(graph.initializer):
        for what, edit in tensor_changes(tensor):
            yield f"initializer {tensor.name} {what}", lambda m, index=index, edit=edit: edit(m.graph.initializer[index])
        def gone(m, index=index):
            del m.graph.initializer[index]
        yield f"initializer {tensor.name} gone", gone
        yield f"initializer {tensor.name} renamed", lambda m, i=index: setattr(m.graph.initializer[i], "name", "renamed")
    for index, value in enumerate(graph.input):
        shape = value.type.tensor_type.shape
        last = len(shape.dim) - 1
        features = value.type.tensor_type.elem_type == TensorProto.FLOAT
        if features and last >= 0 and shape.dim[last].dim_value > 0:
            def wider(m, index=index):
                m.graph.input[index].type.tensor_type.shape.dim[-1].dim_value += 1
            yield f"input {value.name} last axis + 1", wider
            def fewer(m, index=index):
                m.graph.input[index].type.tensor_type.shape.dim.pop()
            yield f"input {value.name} an axis less", fewer
            def more(m, index=index):
                m.graph.input[index].type.tensor_type.shape.dim.add().dim_value = 1
            yield f"input {value.name} an axis more", more
        def kind(m, index=index):
            tensor = m.graph.input[index].type.tensor_type
            tensor.elem_type = TensorProto.INT64 if tensor.elem_type == TensorProto.FLOAT else TensorProto.FLOAT
        yield f"input {value.name} of another type", kind
    for index, value in enumerate(graph.output):
        for new in [n for node in graph.node for n in node.output if n and n != value.name][:6]:
            def other(m, index=index, new=new):
                m.graph.output[index].CopyFrom(onnx.ValueInfoProto(name=new))
            yield f"output {index} is {new}", other


def all_changes_of(model):
    """As `changes`, also of the graphs in nodes."""
    yield from changes(model)
    for index, node in enumerate(model.graph.node):
        for at, attribute in enumerate(node.attribute):
            if attribute.type != AttributeProto.GRAPH:
                continue
            inner = onnx.ModelProto()
            inner.graph.CopyFrom(attribute.g)
            for what, edit in changes(inner):
                def apply(m, index=index, at=at, edit=edit):
                    inner = onnx.ModelProto()
                    inner.graph.CopyFrom(m.graph.node[index].attribute[at].g)
                    edit(inner)
                    m.graph.node[index].attribute[at].g.CopyFrom(inner.graph)
                # What a body states of its inputs' sizes is not read, as ONNX Runtime does not hold it to them either.
                if not what.startswith("input ") and not (VOICE and attribute.name == "else_branch"):
                    yield f"{attribute.name} {what}", apply


def answer(data, feeds):
    """As `run`, in a process of its own, since ONNX Runtime crashes on some models; False then."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "wb") as file:
            pickle.dump(run(data, feeds), file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        got = file.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(got) if status == 0 else False


def run(data, feeds):
    """ONNX Runtime's outputs, None if it refuses, False if it has not implemented this."""
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        wanted = {i.name: i.type for i in session.get_inputs()}
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(double)": np.float64}
        given = {n: feeds[n].astype(kinds[t]) if feeds[n].dtype.kind == "i" and "int" in t else feeds[n] for n, t in wanted.items() if n in feeds}
        got = session.run(None, given)
        return [(o.name, np.asarray(value)) for o, value in zip(session.get_outputs(), got)]
    except Exception as error:
        text = str(error)
        # The state of a constant number of rows; gatefold takes any number.
        rows = re.search(r"Input initial_. must have shape \{(\d+),(\d+),(\d+)\}\. *Actual:\{(\d+),(\d+),(\d+)\}", text)
        if rows and rows[1] == rows[4] and rows[3] == rows[6]:
            return False
        # An optional input with an empty name, which ONNX Runtime's Squeeze does not expect.
        if "Axes input is null" in text:
            return False
        return False if "NOT_IMPLEMENTED" in text or "not supported" in text.lower() and "layout" in text.lower() else None


def mutants(job):
    name, model_bytes, feeds = job
    model = onnx.load_from_string(model_bytes)
    original = answer(model_bytes, feeds)
    all_changes = list(all_changes_of(model))
    if len(all_changes) > MOST:
        all_changes = random.Random(name).sample(all_changes, MOST)
    kept, unknown, tensors = 0, 0, {}
    free = {i.name for i in model.graph.input} - {i.name for i in model.graph.initializer}
    assert free == set(feeds), (name, free, set(feeds))
    for number, (what, edit) in enumerate(all_changes):
        mutant = copy.deepcopy(model)
        edit(mutant)
        data = mutant.SerializeToString()
        got = answer(data, feeds)
        if got is False:
            unknown += 1
            continue
        label = f"{number:04} {what}"
        tensors[f"{label}|model"] = np.frombuffer(data, np.uint8)
        for output, value in got or []:
            tensors[f"{label}|{output}"] = value
        kept += 1
    return name, kept, unknown, sum(1 for n in tensors if n.endswith("|model")), pack(tensors), original is not None


def pack(tensors):
    kinds = {"float32": "F32", "int32": "I32", "uint8": "U8", "int64": "I64", "bool": "BOOL", "float64": "F64", "float16": "F16"}
    header, body = {}, io.BytesIO()
    # By size of an element, as safetensors wants it; models keep their order.
    for name, array in sorted(tensors.items(), key=lambda t: -t[1].dtype.itemsize):
        start = body.tell()
        body.write(np.ascontiguousarray(array).tobytes())
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": list(array.shape), "data_offsets": [start, body.tell()]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body.getvalue()


def voice_jobs():
    """One frame from a state that is not 0, at the first rate; what is fed is stored as `state` and `input`."""
    with zipfile.ZipFile(HERE / "onnx_voice.zip") as file:
        for name in ("one_rate", "apart", "fixed"):
            golden = tensors_of(file.read(f"{name}.golden.safetensors"))
            data = file.read(f"{name}.onnx")
            given = {"input": golden["input"][1], "state": golden["state"][0], "sr": np.array(16000)}
            free = {i.name for i in onnx.load_from_string(data).graph.input}
            yield name, data, {key: value for key, value in given.items() if key in free}


def jobs():
    if VOICE:
        yield from voice_jobs()
    for bundle in BUNDLES:
        with zipfile.ZipFile(HERE / bundle) as file:
            names = sorted(n.removesuffix(".onnx") for n in file.namelist() if n.endswith(".onnx"))
            if bundle == "onnx_grid.zip":
                names = names[::GRID_EVERY]
            for name in names:
                golden = tensors_of(file.read(f"{name}.golden.safetensors"))
                data = file.read(f"{name}.onnx")
                model = onnx.load_from_string(data)
                if not FILES and any(n.op_type == "Loop" for n in model.graph.node) or 0 in golden.get("sequence_lens", [1]):
                    continue
                # ONNX Runtime rounds to 8 bits where gatefold does not.
                if any(n.op_type.startswith("DynamicQuantize") for n in model.graph.node):
                    continue
                # Small, of one input of vectors or token ids, one output, and in an opset that ONNX Runtime has.
                vectors = golden.get("input", np.zeros(1, np.int32))
                if FILES and (len(golden) > 2 or len(data) > 40_000 or vectors.ndim < 3 and vectors.dtype.kind == "f" or model.opset_import[0].version < 7):
                    continue
                constants = {i.name for i in model.graph.initializer}
                free = [i.name for i in model.graph.input if i.name not in constants]
                feeds = {free[0]: golden["input"]} if "input" in golden else {k: v for k, v in golden.items() if k in free}
                yield name, data, feeds


if __name__ == "__main__":
    target = HERE / f"onnx_{'file_' if FILES else 'voice_' if VOICE else ''}mutations.zip"
    total = 0
    with multiprocessing.Pool(2, maxtasksperchild=4) as pool, zipfile.ZipFile(target, "w") as file:
        for name, kept, unknown, _, data, runs in pool.imap(mutants, jobs()):
            total += kept
            print(name, kept, "kept,", unknown, "not implemented", "" if runs else "(original refused)")
            if runs:
                file.writestr(zipfile.ZipInfo(f"{name}.safetensors", EPOCH), data, zipfile.ZIP_DEFLATED, 9)
    print(total, "changes,", target.stat().st_size, "bytes")
