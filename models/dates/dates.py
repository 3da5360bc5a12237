"""Dates as people write them, with the same in ISO 8601: the examples of the model, and its characters.

`python dates.py 640000` prints so many training examples, a text and its date in every line, behind each other a tab.
"""

import random
import sys
from datetime import date, timedelta

# Position is token id. Characters that are not here are read as a blank.
SOURCE = " ,./-0123456789abcdefghijklmnopqrstuvwxyz"
# Token 0 begins and ends a date.
TARGET = "$-0123456789"

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
MONTHS = "january february march april may june july august september october november december".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()


def ordinal(day: int) -> str:
    ending = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def written(day: date, rng: random.Random) -> str:
    """The day in one of many ways; two digits of a year mean 1950 to 2049."""
    month, weekday = MONTHS[day.month - 1], DAYS[day.weekday()]
    if rng.random() < 0.5:
        month, weekday = month[:3], weekday[:3]
    year = f"{day.year % 100:02}" if rng.random() < 0.2 else str(day.year)
    number = rng.choice([str(day.day), ordinal(day.day), f"{day.day:02}"])
    ways = [
        f"{number} {month} {year}",
        f"{month} {number}, {year}",
        f"{month} {number} {year}",
        f"{weekday}, {number} {month} {year}",
        f"{weekday} {month} {number}, {year}",
        f"the {ordinal(day.day)} of {month} {year}",
        f"{number}-{month}-{year}",
        # Numbers alone: the day first, with points or slashes; the year first with slashes.
        f"{day.day}.{day.month}.{year}",
        f"{day.day:02}/{day.month:02}/{year}",
        f"{day.year}/{day.month:02}/{day.day:02}",
    ]
    return rng.choice(ways)


def split(seed: int = 1, held_out: int = 1000) -> tuple[list[date], list[date]]:
    """Every day from FIRST to LAST; those held out are in no training example in any way of writing."""
    days = [FIRST + timedelta(n) for n in range((LAST - FIRST).days + 1)]
    random.Random(seed).shuffle(days)
    return days[held_out:], days[:held_out]


def encode(text: str) -> list[int]:
    return [max(SOURCE.find(letter), 0) for letter in text.lower()]


def main() -> None:
    rng, (train, _) = random.Random(2), split()
    for _ in range(int(sys.argv[1])):
        day = rng.choice(train)
        print(written(day, rng), day.isoformat(), sep="\t")


if __name__ == "__main__":
    main()
