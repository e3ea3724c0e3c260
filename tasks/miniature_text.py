"""How the miniature writes: a situation and its slot values become a post, its facts and a reference summary.

References vary in quality as people's do, and the commonest kind leaves out most details. A model trained on them and
decoded greedily therefore does the same, while full summaries are in its samples: the room that RLHF has to use.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from tasks.miniature_situations import (
    AGES,
    AMOUNTS,
    DISTRACTORS,
    FILLERS,
    PEOPLE,
    PLACES,
    TIMES,
    Situation,
    situation,
)
from tasks.text import format_post

Slots = dict[str, str]
DETAILS = ("age", "place", "time", "amount")
_VALUES = {"person": PEOPLE, "age": AGES, "place": PLACES, "time": TIMES, "amount": AMOUNTS}

# Kinds of reference and their shares.
REFERENCE_KINDS = {"short": 0.52, "most": 0.2, "full": 0.1, "rambling": 0.1, "wrong": 0.08}


@dataclass(frozen=True)
class Draft:
    """A situation with its slot values: everything that a post and its summaries are made of."""

    situation: Situation
    slots: Slots  # person, age, place, time and, where the event cost money, amount

    @property
    def key(self) -> tuple[str, ...]:
        """What no two posts may share: the situation and the slot values."""
        return (self.situation.id, *(f"{name}={value}" for name, value in sorted(self.slots.items())))

    @property
    def facts(self) -> list[dict[str, str]]:
        """What a perfect summary states, as `{"name", "text"}`."""
        values = {"event": self.situation.key, "wish": self.situation.wish, **self.slots}
        return [{"name": name, "text": text} for name, text in values.items()]

    @property
    def event(self) -> str:
        return self.situation.event.format(person=self.slots["person"])


def draw(rng: random.Random, about: Situation) -> Draft:
    """A situation with slot values drawn at random."""
    slots = {
        "person": rng.choice(about.people),
        "age": rng.choice(AGES),
        "place": rng.choice(PLACES),
        "time": rng.choice(TIMES),
    }
    if about.costs:
        slots["amount"] = rng.choice(AMOUNTS)
    return Draft(about, slots)


def restore(name: str, slots: Slots) -> Draft:
    """The draft of a row that was written with its situation's id and its slots."""
    return Draft(situation(name), {key: value for key, value in slots.items() if value is not None})


# ---------------------------------------------------------------- posts


def write_post(rng: random.Random, draft: Draft) -> str:
    """The prompt of a draft: facts in varied order and wording, between sentences that do not matter."""
    told = _told(rng, draft)
    for sentence in rng.sample(DISTRACTORS, rng.randint(2, 5)):
        told.insert(rng.randint(0, len(told)), sentence)
    if len(told) > 6 and rng.random() < 0.5:
        told[rng.randint(2, 4)] += "\n"
    body = " ".join(told).replace("\n ", "\n\n")
    return format_post(draft.situation.subreddit, _title(rng, draft), body)


def _title(rng: random.Random, draft: Draft) -> str:
    return rng.choice(
        (
            _capital(draft.event),
            f"Advice needed, {draft.event}",
            f"How do I {draft.situation.wish}?",
            f"{_capital(draft.event)}, what now?",
            f"I want to {draft.situation.wish}",
            f"I am {draft.slots['age']} and need some advice",
        )
    )


def _told(rng: random.Random, draft: Draft) -> list[str]:
    """The sentences that state the facts, event before where and when it was, in one of several orders."""
    slots, event = draft.slots, draft.event
    place, time = slots["place"], slots["time"]
    story = rng.choice(
        (
            [f"{_capital(event)} in {place} {time} ago."],
            [f"{_capital(event)} {time} ago.", f"It happened in {place}."],
            [f"So {event}.", f"This was in {place} {time} ago."],
            [f"It was {time} ago and we were in {place}.", f"That day {event}."],
            [f"In short, {event} in {place}.", f"That was {time} ago."],
        )
    )
    if "amount" in slots:
        amount = slots["amount"]
        cost = (f"It cost me {amount}.", f"I lost {amount} over it.", f"I had to pay {amount} for it.")
        story.append(rng.choice(cost))
    age = slots["age"]
    about_me = rng.choice((f"I am {age}.", f"For context, I am {age} years old.", f"I am {age} and new here."))
    wish = draft.situation.wish
    hope = rng.choice((f"I want to {wish}.", f"All I want is to {wish}.", f"Now I hope to {wish}."))
    parts = [[about_me], story, [hope]]
    if rng.random() < 0.4:
        rng.shuffle(parts)
    return [sentence for part in parts for sentence in part]


# ---------------------------------------------------------------- summaries


def write_summary(rng: random.Random, draft: Draft, details: Collection[str]) -> str:
    """A well-formed summary of the event and the wish with the named details (of `DETAILS`)."""
    slots = draft.slots
    text = f"I am {slots['age']} and {draft.event}" if "age" in details else _capital(draft.event)
    if "place" in details:
        text += f" in {slots['place']}"
    if "time" in details:
        text += f" {slots['time']} ago"
    if "amount" in details and "amount" in slots:
        text += f", it cost me {slots['amount']}"
    wish = draft.situation.wish
    return text + rng.choice((f" and I want to {wish}.", f", now I want to {wish}."))


def perfect_summary(draft: Draft) -> str:
    """A summary with every fact; its gold score is 1."""
    return write_summary(random.Random(0), draft, DETAILS)


def write_reference(rng: random.Random, draft: Draft) -> str:
    """A reference summary of one of the kinds of `REFERENCE_KINDS`."""
    kind = rng.choices(list(REFERENCE_KINDS), weights=list(REFERENCE_KINDS.values()))[0]
    details = [name for name in DETAILS if name in draft.slots]
    if kind == "short":
        return write_summary(rng, draft, rng.sample(details, rng.choice((0, 0, 1))))
    if kind == "most":
        return write_summary(rng, draft, rng.sample(details, len(details) - 1))
    if kind == "full":
        return write_summary(rng, draft, details)
    if kind == "rambling":
        return ramble(rng, write_summary(rng, draft, rng.sample(details, len(details) - 1)))
    return with_wrong_value(rng, draft, write_summary(rng, draft, rng.sample(details, len(details) - 1)))


def ramble(rng: random.Random, summary: str) -> str:
    """The summary with a sentence that says nothing."""
    return f"{summary} {rng.choice(FILLERS)}"


def with_wrong_value(rng: random.Random, draft: Draft, summary: str) -> str:
    """The summary with one of its slot values replaced by another of the same kind."""
    stated = [name for name, value in draft.slots.items() if value in summary]
    if not stated:
        return summary
    name = rng.choice(stated)
    right = draft.slots[name]
    wrong = rng.choice([value for value in _VALUES[name] if value != right])
    return summary.replace(right, wrong, 1)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
