"""A small invented report for the tests of the page: two models, one baseline, and posts that mean harm."""

from __future__ import annotations

import random

from evaluation.report.data import Figure, Output, ReportData, Sample, Section
from evaluation.table import Table

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = "</script><img src=x onerror=alert(2)><!-- \u2028 & \"quoted\" 'too'"
RIGHT_TO_LEFT = "הכלב שלי ברח אתמול"
ANIMALS = ["cat", "dog", "parrot", "horse", "ferret"]
PLACES = ["Oslo", "Lima", "Quito", "Turin"]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 10"><style>rect{fill:red}</style><rect width="9"/></svg>'


def output(text: str, reward: float | None, gold: float | None = 0.5, faults: tuple[str, ...] = ()) -> Output:
    scores = {"reward": reward, "gold": gold, "rouge1": 0.25}
    return Output(text, scores, "no_eos" not in faults, len(text.split()), list(faults))


def sample(number: int, title: str, post: str, sft: Output, ppo: Output | None) -> Sample:
    outputs = {"sft": sft} | ({} if ppo is None else {"ppo": ppo}) | {"title": output(title, -2.0)}
    return Sample(f"post-{number}", "pets", title, post, f"Reference {number}.", {"reward": 1.0, "gold": 1.0}, outputs)


def peculiar_samples() -> list[Sample]:
    """Posts 0 to 5: harmful, right to left, degenerate, without PPO's summary, with an unknown score, a formula."""
    return [
        sample(0, HOSTILE, BREAKOUT, output(HOSTILE, 0.0), output("=1+1", 1.0)),
        sample(
            1, RIGHT_TO_LEFT, f"{RIGHT_TO_LEFT} מהבית\nAn English line.", output("a", 0.0), output("הכלב שלי ברח", 2.0)
        ),
        sample(
            2, "Help", "Help me.", output("b", 0.0), output("help help help help", -3.0, 0.0, ("repeats", "no_eos"))
        ),
        sample(3, "Alone", "Only SFT wrote here.", output("c", 4.0), None),
        sample(4, "Unknown", "No reward is known.", output("d", None), output("e", 1.0)),
        sample(5, "", "😀😀 My unicorn left Madrid in haste", output("f", 0.5), output("The unicorn left Madrid", 0.5)),
    ]


def ordinary_samples(first: int, last: int, sentences: int) -> list[Sample]:
    rng = random.Random(1)
    found = []
    for number in range(first, last):
        animal, place = rng.choice(ANIMALS), rng.choice(PLACES)
        filler = " ".join(f"On day {rng.randint(1, 99)} nothing of note took place." for _ in range(sentences))
        post = f"My {animal} ran away in {place}. {filler}"
        sft, ppo = (output(f"My {animal} ran {way}.", round(rng.gauss(0, 1), 3)) for way in ("off", f"away in {place}"))
        found.append(sample(number, f"My {animal} is gone", post, sft, ppo))
    return found


def example_report(posts: int = 120, sentences: int = 2) -> ReportData:
    samples = [*peculiar_samples(), *ordinary_samples(6, posts, sentences)]
    table = Table(
        title="Reward scores",
        header=["Model", "Reward", "Above zero"],
        rows=[["SFT", "0.320 [0.311, 0.329]", "yes"], ["PPO <b>", "−0.2", "no"]],
        caption="Mean over posts.",
        above="Ground truth: 1.0.",
    )
    figure = Figure("curve", "Reward while training", "One line a model.", SVG, "The reward rises")
    return ReportData(
        title="SFT against PPO",
        made="2026-01-31 12:00 UTC",
        facts=[("Task", "miniature"), ("Posts", str(posts))],
        missing=["No frontier.json: run `python -m evaluation frontier`."],
        sections=[Section("results", "Results", "What came out.", [table], [figure])],
        models=["sft", "ppo", "title"],
        samples=samples,
    )
