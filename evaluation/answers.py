"""What several models answered to the same prompts: shown side by side, summed up, and written to a file.

Left out: which of two answers is better by anything but a reward model (`python -m evaluation report`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from evaluation.side_by_side import Column, legend, print_columns
from evaluation.statistics import mean_interval, proportion
from evaluation.table import Table, counted, label, number
from evaluation.trial import column_of, faults_of, print_prompt
from tasks.form import TextForm
from tasks.records import Post
from trlx.generation.records import GeneratedText
from trlx.utils.files import write_text
from trlx.utils.spreadsheet import csv_text

MARKDOWN = (".md", ".markdown")


@dataclass(frozen=True)
class Answers:
    """Answers of m models to n prompts.

    Args:
        posts: the prompts. read: model → each prompt as it read it, which may be cut.
        responses: model → its answers. rewards: the same of their scores; empty without a reward model.
        decoding: how tokens were chosen, in words. form: of the task's texts.
    """

    posts: Sequence[Post]
    read: Mapping[str, Sequence[str]]
    responses: Mapping[str, Sequence[GeneratedText]]
    rewards: Mapping[str, Sequence[float]]
    decoding: str
    form: TextForm

    def columns(self, index: int) -> list[Column]:
        """Every model's answer to one prompt, then the reference where there is one."""
        columns = [
            column_of(self.form, label(name), self.read[name][index], made[index], self.scores(name, index))
            for name, made in self.responses.items()
        ]
        reference = self.posts[index].summary
        return [*columns, Column("reference", reference, {})] if reference else columns

    def scores(self, name: str, index: int) -> dict[str, float | None]:
        """The reward of one answer, where there is one; None where it is no finite number."""
        if name not in self.rewards:
            return {}
        reward = self.rewards[name][index]
        return {"reward": reward if math.isfinite(reward) else None}


def print_answers(console: Console, answers: Answers, most: int) -> None:
    """The first prompts with their answers side by side."""
    shown = min(most, len(answers.posts))
    if not shown:
        return
    console.print(
        Text(f"{shown} of {counted(len(answers.posts), 'prompt')}, {answers.decoding}; ").append_text(legend(console))
    )
    for index, post in enumerate(answers.posts[:shown]):
        console.print()
        source = print_prompt(console, f"{index + 1} of {len(answers.posts)} · {post.id}", post.prompt)
        print_columns(console, source, answers.columns(index))


def summary_table(answers: Answers) -> Table:
    """| Model | Reward | Tokens | Ended | Faultless |, means over the prompts."""
    header = ["Model", *(["Reward"] if answers.rewards else []), "Tokens", "Ended", "Faultless"]
    return Table(
        "All answers",
        header,
        [_summed(answers, name) for name in answers.responses],
        f"Means over {counted(len(answers.posts), 'prompt')}, {answers.decoding}. Brackets: 95% interval over prompts.",
    )


def _summed(answers: Answers, name: str) -> list[str]:
    made, count = answers.responses[name], len(answers.posts)
    cells = [label(name)]
    if answers.rewards:
        known = [reward for reward in answers.rewards[name] if math.isfinite(reward)]
        cells.append(number(mean_interval(known) if known else None))
    pairs = zip(answers.read[name], made, strict=True)
    faultless = sum(not faults_of(answers.form, *pair).names for pair in pairs)
    return [
        *cells,
        number(mean_interval([one.tokens for one in made]), 1),
        number(proportion(sum(one.ended for one in made), count), 2),
        number(proportion(faultless, count), 2),
    ]


def write_answers(path: Path, answers: Answers) -> None:
    """A Markdown file where the path ends so, else a CSV with a row for every prompt; whole or not at all."""
    write_text(path, _markdown(answers) if path.suffix.lower() in MARKDOWN else csv_text(list(_rows(answers))))


def _rows(answers: Answers) -> Iterator[dict[str, Any]]:
    for index, post in enumerate(answers.posts):
        row: dict[str, Any] = {"id": post.id, "prompt": post.prompt}
        if any(one.summary for one in answers.posts):
            row["reference"] = post.summary
        for name, made in answers.responses.items():
            row[f"{name}_answer"] = made[index].text.strip()
            scores = answers.scores(name, index)
            row |= {f"{name}_{key}": "" if value is None else value for key, value in scores.items()}
            row |= {f"{name}_tokens": made[index].tokens, f"{name}_ended": str(made[index].ended).lower()}
        yield row


def _markdown(answers: Answers) -> str:
    parts = ["# Answers to the same prompts\n", summary_table(answers).to_markdown()]
    for index, post in enumerate(answers.posts):
        parts.append(f"## {index + 1}. {_quoted(post.id)}\n\n{_block(post.prompt)}\n")
        for column in answers.columns(index):
            facts = ", ".join(f"{name} {value}" for name, value in column.facts.items())
            parts.append(f"**{_quoted(column.title)}**{f' ({facts})' if facts else ''}\n\n{_block(column.text)}\n")
    return "\n".join(parts)


def _quoted(text: str) -> str:
    """A name on one line, of which nothing is taken for markup."""
    return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _block(text: str) -> str:
    """Text of strangers as a block of code, fenced with more backticks than it holds in a row."""
    longest, run = 2, 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
