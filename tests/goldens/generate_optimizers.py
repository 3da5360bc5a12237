"""Trajectories of 20 steps of every optimizer, in f64, written as PyTorch and as Keras write their steps.

`python generate_optimizers.py` writes `optimizers.st`: where parameters start `[P]`, gradients `[S, P]`,
learning rates `[S]`, and for each case the parameters behind steps 1, 5 and 20, `[3, P]`. It needs numpy only.
`python generate_optimizers.py --check` compares the formulas here with those frameworks that are installed, and writes
nothing.
"""

import math
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent
STEPS = 20
BASE = 0.05
# Range, factor of the learning rate, whether it decays, whether it is frozen.
PARTS = [(0, 12, 1.0, True, False), (12, 18, 2.0, False, False), (18, 24, 1.0, True, True)]
PLAIN = [(0, 12, 1.0, True, False), (12, 18, 1.0, True, False), (18, 24, 1.0, True, False)]


class PyTorch:
    """As `torch/optim` has it for one tensor."""

    def sgd(self, s, p, g, lr, momentum=0.0, nesterov=False):
        if momentum:
            s["buf"] = g.copy() if "buf" not in s else s["buf"] * momentum + g
            g = g + momentum * s["buf"] if nesterov else s["buf"]
        return p - lr * g

    def adam(self, s, p, g, lr, eps=1e-8):
        s["t"] = s.get("t", 0) + 1
        m, v = s.get("m", 0 * g), s.get("v", 0 * g)
        s["m"] = m = m + (1 - 0.9) * (g - m)
        s["v"] = v = v * 0.999 + (1 - 0.999) * g * g
        denom = np.sqrt(v) / math.sqrt(1 - 0.999 ** s["t"]) + eps
        return p - lr / (1 - 0.9 ** s["t"]) * (m / denom)

    def rmsprop(self, s, p, g, lr, momentum=0.0, centered=False):
        s["v"] = v = s.get("v", 0 * g) * 0.99 + (1 - 0.99) * g * g
        if centered:
            mean = s.get("mean", 0 * g)
            s["mean"] = mean = mean + (1 - 0.99) * (g - mean)
            v = v - mean * mean
        avg = np.sqrt(v) + 1e-8
        if momentum:
            s["buf"] = s.get("buf", 0 * g) * momentum + g / avg
            return p - lr * s["buf"]
        return p - lr * (g / avg)

    def adagrad(self, s, p, g, lr):
        s["sum"] = s.get("sum", 0 * g) + g * g
        return p - lr * (g / (np.sqrt(s["sum"]) + 1e-10))

    def factor(self, norm, bound):
        return min(bound / (norm + 1e-6), 1.0)

    tensor_factor = factor


class Keras:
    """As `keras/src/optimizers` has it for one variable."""

    def sgd(self, s, p, g, lr, momentum=0.0, nesterov=False):
        if not momentum:
            return p - g * lr
        s["m"] = m = s.get("m", 0 * g) * momentum - g * lr
        return p + (m * momentum - g * lr) if nesterov else p + m

    def adam(self, s, p, g, lr, eps=1e-7):
        s["t"] = t = s.get("t", 0) + 1
        alpha = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        m, v = s.get("m", 0 * g), s.get("v", 0 * g)
        s["m"] = m = m + (g - m) * (1 - 0.9)
        s["v"] = v = v + (g * g - v) * (1 - 0.999)
        return p - m * alpha / (np.sqrt(v) + eps)

    def rmsprop(self, s, p, g, lr, momentum=0.0, centered=False):
        s["v"] = v = 0.9 * s.get("v", 0 * g) + (1 - 0.9) * g * g
        denominator = v + 1e-7
        if centered:
            s["mean"] = 0.9 * s.get("mean", 0 * g) + (1 - 0.9) * g
            denominator = v - s["mean"] ** 2 + 1e-7
        increment = lr * g / np.sqrt(denominator)
        if momentum:
            s["m"] = increment = momentum * s.get("m", 0 * g) + increment
        return p - increment

    def adagrad(self, s, p, g, lr):
        s["sum"] = s.get("sum", 0 * g + 0.1) + g * g
        return p - lr * g / np.sqrt(s["sum"] + 1e-7)

    def factor(self, norm, bound):
        return bound * min(1 / norm, 1 / bound)

    def tensor_factor(self, norm, bound):
        return bound / max(norm, bound)


# Rule, its options, weight decay before the step, L2 in the gradient, clipping.
CASES = {
    "sgd": ("sgd", {}, 0.0, 0.0, None),
    "sgd_momentum": ("sgd", {"momentum": 0.9}, 0.0, 0.0, None),
    "sgd_nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, 0.0, 0.0, None),
    "sgd_l2": ("sgd", {"momentum": 0.9}, 0.0, 0.03, None),
    "adam": ("adam", {}, 0.0, 0.0, None),
    "adam_l2": ("adam", {}, 0.0, 0.03, None),
    "adam_global_norm": ("adam", {}, 0.0, 0.0, ("global_norm", 1.0)),
    "sgd_global_norm": ("sgd", {}, 0.0, 0.0, ("global_norm", 1.0)),
    "sgd_norm": ("sgd", {}, 0.0, 0.0, ("norm", 0.8)),
    "sgd_value": ("sgd", {}, 0.0, 0.0, ("value", 0.3)),
    "adamw": ("adam", {}, 0.02, 0.0, None),
    "rmsprop": ("rmsprop", {}, 0.0, 0.0, None),
    "rmsprop_centered": ("rmsprop", {"centered": True}, 0.0, 0.0, None),
    "rmsprop_momentum": ("rmsprop", {"momentum": 0.9}, 0.0, 0.0, None),
    "rmsprop_both": ("rmsprop", {"centered": True, "momentum": 0.9}, 0.0, 0.0, None),
    "adagrad": ("adagrad", {}, 0.0, 0.0, None),
}


def trajectory(framework, case, start, gradients, rates, parts):
    rule, options, weight_decay, l2, clip = CASES[case]
    p, states, path = start.copy(), [{} for _ in parts], []
    for all_of_g, lr in zip(gradients, rates):
        trained = [part for part in parts if not part[4]]
        norm = math.sqrt(sum((all_of_g[a:b] ** 2).sum() for a, b, *_ in trained))
        for state, (a, b, rate, decays, frozen) in zip(states, parts):
            if frozen:
                continue
            g = all_of_g[a:b]
            if clip and clip[0] == "value":
                g = np.clip(g, -clip[1], clip[1])
            elif clip and clip[0] == "norm":
                g = g * framework.tensor_factor(math.sqrt((g**2).sum()), clip[1])
            elif clip:
                g = g * framework.factor(norm, clip[1])
            if decays:
                g = g + l2 * p[a:b]
                p[a:b] -= lr * rate * weight_decay * p[a:b]
            p[a:b] = getattr(framework, rule)(state, p[a:b], g, lr * rate, **options)
        path.append(p.copy())
    return np.stack(path)


def numbers():
    rng = np.random.default_rng(20)
    start = rng.uniform(-1, 1, 24).astype(np.float32).astype(np.float64)
    # A tenth is so small that eps matters, one number is always 0.
    scales = np.where(np.arange(24) % 10 == 3, 3e-7, 1.0) * rng.uniform(0.1, 1, 24)
    gradients = rng.normal(0.2, 0.6, (STEPS, 24)) * scales
    gradients[:, 7] = 0
    rates = [(k + 1) / 4 if k < 4 else 0.1 + 0.9 * (1 + math.cos(math.pi * (k - 4) / 16)) / 2 for k in range(STEPS)]
    return start, gradients.astype(np.float32).astype(np.float64), np.array([BASE * rate for rate in rates])


def write():
    start, gradients, rates = numbers()
    tensors = {"start": start, "gradients": gradients, "rates": rates}
    for name, framework in (("pytorch", PyTorch()), ("keras", Keras())):
        for case in CASES:
            path = trajectory(framework, case, start, gradients, rates, PARTS)
            tensors[f"{name}.{case}"] = path[[0, 4, 19]]
    save_file({name: np.ascontiguousarray(x, "<f8") for name, x in tensors.items()}, HERE / "optimizers.st")


def check_keras():
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    import keras

    keras.config.set_floatx("float64")
    start, gradients, rates = numbers()
    classes = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
    bounds = {"global_norm": "global_clipnorm", "norm": "clipnorm", "value": "clipvalue"}
    for case, (rule, options, weight_decay, l2, clip) in CASES.items():
        if l2:
            continue  # a regularizer of a layer
        options = options | ({"weight_decay": weight_decay} if weight_decay else {})
        options |= {bounds[clip[0]]: clip[1]} if clip else {}
        optimizer = getattr(keras.optimizers, classes[rule])(**options)
        variables = [keras.Variable(start[a:b], dtype="float64") for a, b, *_ in PLAIN]
        path = []
        for g, lr in zip(gradients, rates):
            optimizer.learning_rate = lr
            optimizer.apply([keras.ops.convert_to_tensor(g[a:b]) for a, b, *_ in PLAIN], variables)
            path.append(np.concatenate([keras.ops.convert_to_numpy(v) for v in variables]))
        report(f"keras.{case}", np.stack(path), trajectory(Keras(), case, start, gradients, rates, PLAIN))


def check_pytorch():
    import torch

    start, gradients, rates = numbers()
    classes = {"sgd": "SGD", "adam": "Adam", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
    for case, (rule, options, weight_decay, l2, clip) in CASES.items():
        tensors = [torch.tensor(start[a:b], dtype=torch.float64, requires_grad=True) for a, b, *_ in PLAIN]
        kind = getattr(torch.optim, "AdamW" if weight_decay else classes[rule])
        optimizer = kind(tensors, weight_decay=weight_decay or l2, **options)
        path = []
        for g, lr in zip(gradients, rates):
            for tensor, (a, b, *_) in zip(tensors, PLAIN):
                tensor.grad = torch.tensor(g[a:b])
            if clip and clip[0] == "value":
                torch.nn.utils.clip_grad_value_(tensors, clip[1])
            for group in ([tensors] if clip and clip[0] == "global_norm" else [[t] for t in tensors]):
                if clip and clip[0] != "value":
                    torch.nn.utils.clip_grad_norm_(group, clip[1])
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
            path.append(torch.cat([t.detach() for t in tensors]).numpy())
        report(f"pytorch.{case}", np.stack(path), trajectory(PyTorch(), case, start, gradients, rates, PLAIN))


def report(name, expected, got):
    print(f"{name:28s} {abs(got - expected).max() / abs(expected).max():.1e}")


if __name__ == "__main__":
    if "--check" in sys.argv:
        for check in (check_keras, check_pytorch):
            try:
                check()
            except ModuleNotFoundError as error:
                print(error)
    else:
        write()
