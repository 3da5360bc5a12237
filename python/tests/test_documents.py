"""The README's code and the examples run as written."""

import re
import subprocess
import sys

import pytest
from support import REPOSITORY, framework

PACKAGE = REPOSITORY / "python"


def snippets(text: str) -> list[tuple[str, str]]:
    """The framework that each block of Python needs, and its code."""
    return [(need.strip(), code) for need, code in re.findall(r"^```python(.*?)\n(.*?)^```$", text, re.M | re.S)]


README = snippets((PACKAGE / "README.md").read_text(encoding="utf-8"))


def run(code: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code] if "\n" in code else [sys.executable, code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


@pytest.mark.parametrize("number", range(len(README)))
def test_code_of_the_readme(number):
    need, code = README[number]
    if need:
        framework(need)
    done = run(code, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


def test_code_that_is_wrong_fails():
    assert len(README) >= 6 and [need for need, _ in README if need] == ["torch", "keras", "pyarrow"]
    wrong = snippets("text\n```python\nimport gatefold_rnn as gf\nassert not gf.devices()\n```\n```sh\nls\n```\n")
    assert len(wrong) == 1 and run(wrong[0][1]).returncode == 1


@pytest.mark.parametrize(
    "name, words",
    [("sentiment", r"positive  0\.\d\d"), ("forecast", r"error 0\.[01]\d\d"), ("streams", "equal to whole sequences: True")],
)
def test_examples(name, words, tmp_path):
    done = run(str(PACKAGE / "examples" / f"{name}.py"), cwd=tmp_path)
    assert done.returncode == 0 and re.search(words, done.stdout), (done.stdout, done.stderr)
