"""Many callers of one network, each in the middle of its own sequence: `python python/examples/streams.py`.

Each call advances the streams that have something new, by as many frames as each has, as one batch. A stream is put away with
`pickle` and taken up again.
"""

import pickle

import numpy as np

import gatefold_rnn as gf

FEATURES = 40

net = gf.network(
    [
        {"type": "gru", "name": "gru", "input_size": FEATURES, "hidden_size": 64},
        {"type": "dense", "name": "head", "in_features": 64, "out_features": 1, "activation": "sigmoid"},
    ],
    seed=1,
)
rng = np.random.default_rng(0)
audio = rng.normal(size=(100, 50, FEATURES)).astype(np.float32)  # frames of 100 callers

pool = gf.Streams(net, capacity=100)
streams = [pool.open() for _ in audio]
at = np.zeros(len(audio), int)
scores = [[] for _ in audio]
while (at < audio.shape[1]).any():
    new = {}
    for caller in np.flatnonzero(at < audio.shape[1]):
        chunk = audio[caller, at[caller] : at[caller] + rng.integers(0, 6)]
        if len(chunk) > 0:  # some have nothing new
            new[streams[caller]] = chunk
            at[caller] += len(chunk)
    for stream, y in pool.advance(new).items():
        scores[streams.index(stream)].extend(y[:, 0])
    # The first caller is put away and comes back, as after a restart.
    kept = pickle.dumps(pool.snapshot(streams[0]))
    pool.close(streams[0])
    streams[0] = pool.open(pickle.loads(kept))

whole = net(np.swapaxes(audio, 0, 1))[..., 0].T
print(f"{len(streams)} streams, {int(at.sum())} frames, equal to whole sequences: {np.array_equal(scores, whole)}")
