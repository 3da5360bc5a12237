"""Classifies texts with the model that the repository ships: `python python/examples/sentiment.py [TEXT …]`."""

import sys
from pathlib import Path

import gatefold_rnn as gf

MODEL = Path(__file__).resolve().parents[2] / "models" / "sentiment" / "sentiment.safetensors"
TEXTS = ["a warm, funny and deeply moving film", "two hours i will never get back"]

classifier = gf.Classifier(MODEL)
texts = sys.argv[1:] or TEXTS
for text, label, shares in zip(texts, classifier.predict(texts), classifier.predict_proba(texts)):
    print(f"{label:9} {shares.max():.2f}  {text}")
