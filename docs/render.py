"""Draws a command and its output as a terminal window in SVG.

    gatefold classify ... | python3 docs/render.py 'gatefold classify ...' > docs/classify.svg

The command may have several lines, as one types them behind a backslash.
"""

import html
import re
import sys

SIZE, CHAR, LINE, MARGIN, BAR = 15, 9.03, 24, 26, 44
INK, DIM, COMMAND, QUOTED = "#e8eaf0", "#7f8797", "#8fd6ff", "#ffd48a"


def span(text: str, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<tspan fill="{colour}"{weight}>{html.escape(text, quote=False)}</tspan>' if text else ""


def prompt(line: str, first: bool) -> str:
    parts = re.split(r'("[^"]*")', line)
    words = "".join(span(part, QUOTED if part.startswith('"') else COMMAND) for part in parts)
    return span("$ " if first else "  ", DIM) + words


def output(line: str) -> str:
    if line.startswith("label ") or " text" in line and " on " in line:
        return span(line, DIM)
    label, rest = re.match(r"(\S*)(.*)", line).groups()
    return span(label, INK, bold=True) + span(rest, INK)


def main() -> None:
    command = sys.argv[1].split("\n")
    answer = sys.stdin.read().rstrip().split("\n")
    lines = ["  " + line for line in command] + [""] + answer
    drawn = [prompt(line, index == 0) for index, line in enumerate(command)] + [""] + [output(line) for line in answer]
    width = round(max(map(len, lines)) * CHAR + 2 * MARGIN)
    height = BAR + len(lines) * LINE + MARGIN - 8
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">')
    print(f'<rect width="{width}" height="{height}" rx="10" fill="#1b1f27"/>')
    for index, colour in enumerate(["#ff5f57", "#febc2e", "#28c840"]):
        print(f'<circle cx="{MARGIN + 4 + index * 20}" cy="22" r="6" fill="{colour}"/>')
    print(f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}">')
    for index, (line, spans) in enumerate(zip(lines, drawn)):
        if spans:
            # One width of letter in every font, so that the columns stand.
            length = f'textLength="{len(line) * CHAR:.1f}" lengthAdjust="spacingAndGlyphs"'
            print(f'<text x="{MARGIN}" y="{BAR + 18 + index * LINE}" xml:space="preserve" {length}>{spans}</text>')
    print("</g></svg>")


if __name__ == "__main__":
    main()
