"""Writing goldens and bundling them; shared by the ONNX generators."""

import json
import zipfile

import numpy as np

EPOCH = (1980, 1, 1, 0, 0, 0)


def write_golden(path, tensors):
    """A safetensors file; written here so that every Python environment can."""
    kinds = {"float32": "F32", "int32": "I32"}
    header, body = {}, b""
    for name, array in tensors.items():
        array = np.ascontiguousarray(array)
        start = len(body)
        body += array.tobytes()
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": list(array.shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def bundle(folder, target):
    """Every model, file of its tensors and golden of `folder` in one deflated zip, the same bytes for the same files."""
    paths = sorted(p for p in folder.iterdir() if p.name.endswith((".onnx", ".bin", ".golden.safetensors")))
    with zipfile.ZipFile(target, "w") as file:
        for path in paths:
            info = zipfile.ZipInfo(path.name, EPOCH)
            file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    print(target, len(paths), "files", target.stat().st_size, "bytes")
