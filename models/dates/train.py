"""Train the encoder and the decoder; write `encoder.safetensors`, `decoder.safetensors`, `held_out.tsv` (text, date,
PyTorch's greedy answer) and `vocabulary.json` beside this file. Minutes on one core; the same seed gave the same files on
the same machine."""

import json
import random
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

import dates

HERE = Path(__file__).parent
EMBEDDING, HIDDEN = 16, 40
BATCH, STEPS, RATE = 128, 5000, 5e-3


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(dates.SOURCE), EMBEDDING)
        self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN)

    def forward(self, texts: list[str]):
        rows = [torch.tensor(dates.encode(text)) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        packed = pack_padded_sequence(self.embedding(pad_sequence(rows)), lengths, enforce_sorted=False)
        return self.lstm(packed)[1]


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(dates.TARGET), EMBEDDING)
        self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN)
        self.dense = torch.nn.Linear(HIDDEN, len(dates.TARGET))

    def forward(self, tokens, state):
        output, state = self.lstm(self.embedding(tokens), state)
        return self.dense(output), state


def targets(days) -> torch.Tensor:
    """`[11, B]`: the date and the token that ends it."""
    return torch.tensor([[dates.TARGET.index(c) for c in day.isoformat()] + [0] for day in days]).T


@torch.no_grad()
def greedy(encoder, decoder, texts: list[str]) -> list[str]:
    tokens, state, out = torch.zeros(1, len(texts), dtype=torch.long), encoder(texts), []
    for _ in range(11):
        logits, state = decoder(tokens, state)
        tokens = logits.argmax(-1)
        out.append(tokens[0])
    rows = torch.stack(out).T.tolist()
    return ["".join(dates.TARGET[token] for token in row).split("$")[0] for row in rows]


def save(module, name: str, layers: list[dict]) -> None:
    weights = {key: value.contiguous() for key, value in module.state_dict().items()}
    save_file(weights, HERE / name, {"gatefold": json.dumps({"format": 1, "layers": layers})})


def layers(vocabulary: int, output: str) -> list[dict]:
    return [
        {"type": "embedding", "name": "embedding", "num_embeddings": vocabulary, "embedding_dim": EMBEDDING},
        {"type": "lstm", "name": "lstm", "input_size": EMBEDDING, "hidden_size": HIDDEN, "output": output},
    ]


def main() -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng = random.Random(2)
    train, held_out = dates.split()
    test = [(dates.written(day, random.Random(day.toordinal())), day) for day in held_out]
    encoder, decoder = Encoder(), Decoder()
    weights = [*encoder.parameters(), *decoder.parameters()]
    adam = torch.optim.Adam(weights, RATE)
    falling = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=STEPS)
    start = time.time()
    for step in range(1, STEPS + 1):
        days = [rng.choice(train) for _ in range(BATCH)]
        wanted = targets(days)
        given = torch.cat([torch.zeros(1, BATCH, dtype=torch.long), wanted[:-1]])
        logits, _ = decoder(given, encoder([dates.written(day, rng) for day in days]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        adam.step()
        falling.step()
        if step % 500 == 0:
            answers = greedy(encoder, decoder, [text for text, _ in test])
            right = sum(answer == day.isoformat() for answer, (_, day) in zip(answers, test))
            print(f"step {step}, loss {loss:.4f}, {right} of {len(test)} held out right, {time.time() - start:.0f} s", flush=True)
            export(encoder, decoder, test, answers)


def export(encoder, decoder, test, answers: list[str]) -> None:
    save(encoder, "encoder.safetensors", layers(len(dates.SOURCE), "last"))
    dense = {"type": "dense", "name": "dense", "in_features": HIDDEN, "out_features": len(dates.TARGET)}
    save(decoder, "decoder.safetensors", [*layers(len(dates.TARGET), "sequence"), dense])
    lines = (f"{text}\t{day.isoformat()}\t{answer}\n" for (text, day), answer in zip(test, answers))
    (HERE / "held_out.tsv").write_text("".join(lines))
    vocabulary = {"source": dates.SOURCE, "target": dates.TARGET}
    (HERE / "vocabulary.json").write_text(json.dumps(vocabulary) + "\n")


if __name__ == "__main__":
    main()
