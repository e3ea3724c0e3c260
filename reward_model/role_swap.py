"""Who did it to whom, turned round: the words of a summary's roles exchanged by a table.

Left out: grammar beyond the commonest verbs after a pronoun, and telling "her" the object from "her" the owner: it
always becomes "my"; and words that often mean something else (student debt, being patient). The edit has to be wrong,
not elegant.
"""

from __future__ import annotations

import re

VERBS = ("want", "need", "think", "feel", "know", "like", "love", "hope")
# First person <-> third person. Phrases come before the words in them, since the longest match is taken.
PRONOUNS = {
    **{f"i {verb}": f"he {verb}s" for verb in VERBS},
    **{f"{who} {verb}s": f"I {verb}" for verb in VERBS for who in ("he", "she")},
    "i am": "he is",
    "i'm": "he's",
    "i have": "he has",
    "i've": "he has",
    "i'll": "he'll",
    "i'd": "he'd",
    "i was": "he was",
    "do i": "does he",
    "i don't": "he doesn't",
    "i": "he",
    "me": "him",
    "my": "his",
    "mine": "his",
    "myself": "himself",
    "he is": "I am",
    "she is": "I am",
    "he's": "I'm",
    "she's": "I'm",
    "he has": "I have",
    "she has": "I have",
    "he'll": "I'll",
    "she'll": "I'll",
    "he'd": "I'd",
    "she'd": "I'd",
    "does he": "do I",
    "does she": "do I",
    "he doesn't": "I don't",
    "she doesn't": "I don't",
    "he": "I",
    "she": "I",
    "him": "me",
    "her": "my",
    "his": "my",
    "hers": "mine",
    "himself": "myself",
    "herself": "myself",
}
# Each of two people becomes the other.
PEOPLE = (
    ("mother", "father"),
    ("mom", "dad"),
    ("mommy", "daddy"),
    ("sister", "brother"),
    ("daughter", "son"),
    ("wife", "husband"),
    ("girlfriend", "boyfriend"),
    ("gf", "bf"),
    ("fiancee", "fiance"),
    ("aunt", "uncle"),
    ("niece", "nephew"),
    ("grandmother", "grandfather"),
    ("grandma", "grandpa"),
    ("woman", "man"),
    ("women", "men"),
    ("girl", "guy"),
    ("girls", "guys"),
    ("lady", "gentleman"),
    ("boss", "employee"),
    ("manager", "assistant"),
    ("landlord", "tenant"),
    ("parents", "children"),
    ("buyer", "seller"),
)
TABLE = PRONOUNS | {one: other for pair in PEOPLE for one, other in (pair, pair[::-1])} | {"mum": "dad"}
_APOSTROPHE = "['’]"
_ALTERNATIVES = "|".join(re.escape(word).replace("'", _APOSTROPHE) for word in sorted(TABLE, key=len, reverse=True))
# Not within a word, and no letter of an abbreviation (i.e., A.I.).
_WORD = re.compile(rf"(?<![\w'’])(?<!\b\w\.)(?:{_ALTERNATIVES})(?!\w|\.[b-hj-z]\b)", re.IGNORECASE)


def swap_roles(text: str) -> str:
    """The text with every word of `TABLE` replaced by its counterpart; capitals stay (GF, Mother).

    `I` keeps its capital wherever it comes to stand, and loses it where it goes. Apostrophes stay of their kind, so
    that the edit differs in nothing but who did what.
    """
    return _WORD.sub(lambda found: _counterpart(found.group(), _starts(text, found.start())), text)


def _counterpart(word: str, at_start: bool) -> str:
    other = TABLE[word.lower().replace("’", "'")]
    if "’" in word:
        other = other.replace("'", "’")
    if len(word) > 1 and word.isupper():
        return other.upper()
    was_capital = word[0].isupper() and (at_start or not word.lower().startswith("i"))
    return other[0].upper() + other[1:] if was_capital else other


def _starts(text: str, position: int) -> bool:
    """Whether a sentence begins at the position."""
    before = text[:position].rstrip()
    return not before or before[-1] in ".!?"
