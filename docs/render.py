"""Draws a command and its output as a terminal window in SVG.

    gatefold classify ... | python3 docs/render.py 'gatefold classify ...' > docs/classify.svg
"""

import html
import sys

LINE, CHAR, MARGIN, BAR = 22, 8.43, 22, 38


def main() -> None:
    lines = ["$ " + sys.argv[1], ""] + sys.stdin.read().rstrip().split("\n")
    width = round(max(map(len, lines)) * CHAR + 2 * MARGIN)
    height = BAR + len(lines) * LINE + MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">')
    print(f'<rect width="{width}" height="{height}" rx="10" fill="#1b1f27"/>')
    for index, colour in enumerate(["#ff5f57", "#febc2e", "#28c840"]):
        print(f'<circle cx="{MARGIN + 6 + index * 20}" cy="20" r="6" fill="{colour}"/>')
    print('<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">')
    for index, line in enumerate(lines):
        colour = "#8fd6ff" if index == 0 else "#e6e6e6"
        if line.startswith("label ") or " text" in line and " on " in line:
            colour = "#8b93a1"
        y = BAR + 14 + index * LINE
        if line:
            length = f'textLength="{len(line) * CHAR:.1f}" lengthAdjust="spacing"'
            print(f'<text x="{MARGIN}" y="{y}" fill="{colour}" {length}>{html.escape(line)}</text>')
    print("</g></svg>")


if __name__ == "__main__":
    main()
