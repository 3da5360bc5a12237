"""The networks of `examples/question_answering.rs` in PyTorch, trained on the same stories with the same settings:

    cargo run --release --example question_answering -- --facts 1 --write stories.jsonl
    python questions.py stories.jsonl --model attention --looks 1 --epochs 6

Accuracy on the test stories of the epoch with the smallest validation loss, and seconds, one thread."""

import argparse
import copy
import json
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

EMBEDDING, BATCH = 32, 32


class Answers(nn.Module):
    """An LSTM over story and question; its last h, or after each look back a layer of that and of what was seen, looks at all outputs."""

    def __init__(self, words, rooms, hidden, looks):
        super().__init__()
        self.embedding = nn.Embedding(words + 1, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, hidden, batch_first=True, bidirectional=looks > 0)
        self.queries = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(looks))
        self.nexts = nn.ModuleList(nn.Linear(3 * hidden, hidden) for _ in range(looks))
        self.answer = nn.Linear(hidden, rooms)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embedding(ids), lengths, batch_first=True, enforce_sorted=False)
        outputs, (h, _) = self.lstm(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        end = h[0]
        padding = torch.arange(outputs.shape[1]) >= lengths[:, None]
        for query, following in zip(self.queries, self.nexts):
            scores = torch.einsum("bd,btd->bt", query(end), outputs).masked_fill(padding, -torch.inf)
            seen = torch.einsum("bt,btd->bd", scores.softmax(-1), outputs)
            end = torch.tanh(following(torch.cat([seen, end], -1)))
        return self.answer(end)


def batches(stories, order):
    for first in range(0, len(order), BATCH):
        chosen = [stories[at] for at in order[first : first + BATCH]]
        lengths = torch.tensor([len(ids) for ids, _ in chosen])
        ids = torch.zeros(len(chosen), int(lengths.max()), dtype=torch.long)
        for row, (of_row, _) in enumerate(chosen):
            ids[row, : len(of_row)] = torch.tensor(of_row)
        yield ids, lengths, torch.tensor([answer for _, answer in chosen])


@torch.no_grad()
def tested(network, stories):
    """Loss and share of right answers."""
    network.eval()
    loss = right = 0
    for ids, lengths, answers in batches(stories, range(len(stories))):
        logits = network(ids, lengths)
        loss += nn.functional.cross_entropy(logits, answers, reduction="sum").item()
        right += (logits.argmax(-1) == answers).sum().item()
    return loss / len(stories), right / len(stories)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("stories")
    parser.add_argument("--model", choices=["lstm", "attention"], default="attention")
    parser.add_argument("--looks", type=int, default=1, help="looks back of attention: as many as facts")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    with open(args.stories) as file:
        rows = [json.loads(line) for line in file]
    words = {word: at for at, word in enumerate(sorted({word for row in rows for word in row["text"].split()}), 1)}
    rooms = {room: at for at, room in enumerate(sorted({row["label"] for row in rows}))}
    sets = {"train": [], "validation": [], "test": []}
    for row in rows:
        sets[row["split"]].append(([words[word] for word in row["text"].split()], rooms[row["label"]]))
    network = Answers(len(words), len(rooms), args.hidden, args.looks if args.model == "attention" else 0)
    print(f"{args.model}: {sum(p.numel() for p in network.parameters())} weights, torch {torch.__version__}")
    optimizer = torch.optim.Adam(network.parameters(), lr=args.rate)
    best, best_loss, since, start = None, float("inf"), 0, time.time()
    for epoch in range(1, args.epochs + 1):
        network.train()
        for ids, lengths, answers in batches(sets["train"], torch.randperm(len(sets["train"])).tolist()):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(ids, lengths), answers).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        loss, right = tested(network, sets["validation"])
        print(f"epoch {epoch:2}: validation loss {loss:.4f}, accuracy {100 * right:.1f} %, after {time.time() - start:.0f} s", flush=True)
        if loss < best_loss:
            best, best_loss, since = copy.deepcopy(network.state_dict()), loss, 0
        else:
            since += 1
            if since >= 5:
                break
    network.load_state_dict(best)
    print(f"test: {100 * tested(network, sets['test'])[1]:.1f} % of {len(sets['test'])} right")


if __name__ == "__main__":
    main()
