"""`torch.nn.functional.ctc_loss` in f64 with its gradient by the logits: `ctc.st`.

Each case NAME is an entry of the metadata, as JSON: shape `[T, B, C]`, lengths, labels and blank. NAME.logits `[T, B, C]` are
f32 numbers; NAME.losses `[B]` are those of `reduction="none"`, NAME.value that of `mean` with `zero_infinity`,
NAME.d_logits its gradient.

    python generate_ctc.py
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from golden import HERE, generator, uniform

# T, C, blank, lengths, labels
CASES = {
    "plain": (6, 4, 0, [6, 6], [[1, 2], [3]]),
    "lengths": (7, 5, 0, [7, 4, 1], [[1, 2, 3], [4, 1], [2]]),
    "repeated": (6, 4, 0, [6, 5], [[1, 1, 2], [3, 3, 3]]),
    "blank_last": (6, 4, 3, [6, 5], [[0, 1], [2, 2]]),
    "no_labels": (4, 3, 0, [4, 3], [[], [1]]),
    "too_few_steps": (4, 4, 0, [4, 2, 4], [[1, 1, 2, 2], [1, 2, 3], [1, 2]]),
    "long": (40, 6, 0, [40, 33], [[1, 2, 3, 4, 5, 5, 4, 3], [2, 2, 1]]),
}


def main() -> None:
    arrays, about = {}, {}
    for name, (time, classes, blank, lengths, labels) in CASES.items():
        logits = torch.from_numpy(uniform(generator(name), (time, len(labels), classes), 3.0)).to(torch.float64)
        logits.requires_grad_()
        flat = torch.tensor([label for row in labels for label in row], dtype=torch.long)
        sizes = torch.tensor([len(row) for row in labels])
        given = (F.log_softmax(logits, -1), flat, torch.tensor(lengths), sizes, blank)
        losses = F.ctc_loss(*given, reduction="none")
        value = F.ctc_loss(*given, reduction="mean", zero_infinity=True)
        value.backward()
        found = {"logits": logits.detach(), "losses": losses.detach(), "value": value.detach()[None], "d_logits": logits.grad}
        arrays |= {f"{name}.{key}": np.ascontiguousarray(array.numpy(), "<f8") for key, array in found.items()}
        about[name] = json.dumps({"shape": [time, len(labels), classes], "lengths": lengths, "labels": labels, "blank": blank})
    save_file(arrays, HERE / "ctc.st", metadata=about)


if __name__ == "__main__":
    main()
