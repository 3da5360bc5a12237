"""Trains an LSTM to continue a noisy oscillation: `python python/examples/forecast.py [--plot FILE.png]`.

In a notebook, `history` shows a table and `history.plot()` draws the losses.
"""

import sys

import numpy as np

import gatefold_rnn as gf

STEPS = 30

rng = np.random.default_rng(0)
phase, rate = rng.uniform(0, 2 * np.pi, (400, 1)), rng.uniform(0.1, 0.5, (400, 1))
clean = np.sin(phase + rate * np.arange(STEPS + 1))
seen = clean[:, :STEPS] + rng.normal(0, 0.1, (400, STEPS))
x, y = seen[..., None], clean[:, STEPS:]  # [N, T, I] and [N, 1]
train, test = slice(0, 320), slice(320, 400)

net = gf.network(
    [
        {"type": "lstm", "name": "lstm", "input_size": 1, "hidden_size": 24, "output": "last", "batch_first": True},
        {"type": "dense", "name": "head", "in_features": 24, "out_features": 1},
    ],
    seed=1,
)
trainer = gf.Trainer(net, "mse", "adam", learning_rate=0.01, clip_norm=1.0, seed=1)
history = trainer.fit(x[train], y[train], validation_data=(x[test], y[test]), epochs=25, batch_size=32, patience=5)

error = np.sqrt(np.mean((trainer.predict(x[test]) - y[test]) ** 2))
last = np.sqrt(np.mean((seen[test, -1:] - y[test]) ** 2))
print(f"{len(history)} epochs; error {error:.3f}, that of repeating the last value {last:.3f}")
trainer.save("forecast.safetensors")
if "--plot" in sys.argv:
    history.plot().savefig(sys.argv[sys.argv.index("--plot") + 1])
