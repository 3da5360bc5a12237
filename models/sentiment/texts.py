"""Texts that try the tokeniser's corners. All were written for this file.

A text is a string, or `{"repeat": [words, count]}`: `words` joined `count` times with one space between.
"""

TEXTS = [
    # ordinary reviews
    "A warm, funny and surprisingly moving film.",
    "I was bored from the first scene to the last.",
    "The plot makes no sense, but the cast is a joy to watch.",
    "an utter waste of talent , time and money .",
    "One of the best films of the year!",
    "not bad at all",
    "It is too long, too loud and too dull to care about.",
    "a quiet , beautifully acted drama about love and loss .",
    # case
    "THE BEST COMEDY OF THE YEAR",
    "ThE bEsT cOmEdY oF tHe YeAr",
    # punctuation is removed, not replaced by a space
    "well-made, heart-felt; slow-moving?",
    "it's a film that doesn't know what it's about",
    "good...bad...ugly",
    "\"great\" (really) [truly] {very} <much> `so` 'yes' ~ @ # $ % ^ & * + = | \\ / : ;",
    "under_score snake_case_film _ __",
    "!great!!! ?film??? ...really...",
    "the - best - film",
    "50/50 9.5/10 1,000 #1",
    # digits
    "2 hours and 15 minutes of 1950s nostalgia",
    # whitespace
    "  a   great    film  ",
    "a\tgreat\tfilm",
    "a great\nfilm\r\nabout love\r",
    "a\u000bgreat\u000cfilm",
    "a\u001cgreat\u001dfilm\u001ewith\u001fheart",
    "a\u00a0great film",
    "a great\u2028film with\u2029heart",
    "a\u0085great film",
    "a\u3000great\u2003film",
    "a\u200bgreat \ufefffilm",
    "a\u0000great film",
    # characters outside ASCII: neither lower-cased nor removed
    "AMÉLIE is a charming film",
    "Amélie is a charming film",
    "the clichés of every cliché",
    "THE CLICHÉS OF EVERY CLICHÉ",
    "\u212aind of good",  # Kelvin sign: Unicode lower-cases it to "k"
    "STRAßE İstanbul ΑΒΓ Ω",
    "the film\u2019s charm \u2014 and wit\u2026",
    "a film \u2013 and a good one",
    "\u201cbrilliant\u201d \u00ab superb \u00bb",
    "e\u0301 decomposed cliche\u0301",
    "\U0001f600 great film \U0001f44d",
    "great\U0001f600film",
    "素晴らしい 映画",
    # unknown words
    "zxqv",
    "zxqv wvkjq qqzzx",
    "[UNK] unk",
    # length
    "a",
    "5",
    "good",
    "bad",
    {"repeat": ["a dull film", 667]},
    {"repeat": ["wonderful", 700]},
    # no token at all
    "",
    "   ",
    "\t\n\u000b\u000c\r",
    "!!!",
    "- . , '",
]


def expand(text: str | dict) -> str:
    if isinstance(text, str):
        return text
    words, count = text["repeat"]
    return " ".join([words] * count)
