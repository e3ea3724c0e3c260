"""One post tried: what every policy writes about it, the best of n samples of the first, and what they are worth.

Texts are cut, written and scored as in the evaluation. Left out: a reference (such a post has none), so no ROUGE.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluation.decoding import GREEDY, UNCUT, up_to
from evaluation.degeneration import Faults, faults
from evaluation.policies import load_policy
from evaluation.side_by_side import Column, legend, print_columns, print_post, scores_shown
from evaluation.table import label
from reward_model.scorer import RewardScorer
from tasks.form import TextForm, token_ids
from tasks.text import split_prompt, subreddit_of, title_of
from trlx.generation.records import GeneratedText
from trlx.generation.sampling import generate_texts
from trlx.utils.basics import set_seed
from trlx.utils.pretrained import load_tokenizer, require_positions, require_vocabulary


@dataclass(frozen=True)
class Policy:
    """A model that writes, with its own tokenizer."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, name: str, path: str, dtype: torch.dtype, device: torch.device, longest: int) -> Policy:
        """From a folder or hub id.

        Args:
            longest: tokens of prompt and response together.

        Raises: UserError when it cannot be read, or is not made for its tokenizer or for so many tokens.
        """
        policy = cls(name, load_policy(path, dtype, device), load_tokenizer(path, "--models"))
        require_vocabulary(policy.model.config, policy.tokenizer, path)
        require_positions(policy.model.config, longest, "--max_prompt_tokens + --max_new_tokens")
        return policy


@dataclass(frozen=True)
class Written:
    """One response: who wrote it, after which prompt, and how long that took; a chosen one also has its rewards."""

    title: str
    prompt: str
    response: GeneratedText
    seconds: float

    def column(self, form: TextForm, scores: dict[str, float | None]) -> Column:
        """As it is shown; `form` is of the task's texts."""
        column = column_of(form, self.title, self.prompt, self.response, scores)
        return replace(column, facts={**column.facts, "seconds": f"{self.seconds:.2f}"})


def column_of(
    form: TextForm, title: str, prompt: str, response: GeneratedText, scores: Mapping[str, float | None]
) -> Column:
    """A response as it is shown, with its scores, length and faults."""
    text = response.text.strip()
    tokens = str(response.tokens) + ("" if response.ended else ", cut")
    found = " ".join(faults_of(form, prompt, response).names) or "–"
    return Column(title, text, {**scores_shown(scores), "tokens": tokens, "faults": found})


def faults_of(form: TextForm, prompt: str, response: GeneratedText) -> Faults:
    """What is wrong with a response to a prompt, as the evaluation finds it."""
    return faults(response.text.strip(), response.ended, form.split_prompt(prompt).body, title_of(prompt))


def print_prompt(console: Console, heading: str, prompt: str) -> str:
    """The prompt under a line that names it; returns what of it is the source of a response's words."""
    title, body = title_of(prompt), split_prompt(prompt)[1].strip()
    print_post(console, heading, subreddit_of(prompt), title, body)
    return f"{title}\n{body}"


@dataclass(frozen=True)
class Trial:
    """One post with what was written about it, and remarks."""

    prompt: str  # as the first model read it
    columns: list[Column]
    remarks: list[str]

    def show(self, console: Console) -> None:
        """The post, the summaries side by side, the remarks."""
        source = print_prompt(console, "the post as it was read", self.prompt)
        print_columns(console, source, self.columns)
        for remark in self.remarks:
            console.print(Text(remark))
        console.print(legend(console))
        console.print()


@dataclass(frozen=True)
class Bench:
    """Everything that is loaded once.

    Args:
        form: of the posts. policies: who writes; the first is sampled from.
        scorers: "reward" and, where there is one, "second_reward".
    """

    form: TextForm
    policies: list[Policy]
    scorers: dict[str, RewardScorer]
    max_prompt_tokens: int
    max_new_tokens: int
    n: int
    batch_size: int
    seed: int

    def attempt(self, prompt: str) -> Trial:
        """What every policy makes of one post, and the best of n.

        Raises: UserError when the post's first lines alone are too long.
        """
        first = self.policies[0]
        remarks: list[str] = []
        read = self.form.cut(prompt, first.tokenizer, self.max_prompt_tokens)
        before, after = _tokens(first, prompt), _tokens(first, read)
        if after < before:
            remarks.append(
                f"The post was too long and was cut as in the evaluation: {after} of its {before} tokens are left "
                f"(at most {self.max_prompt_tokens})."
            )
        written = [self._greedy(policy, prompt) for policy in self.policies]
        if self.n:
            best, remark = self._best_of_n(prompt)
            written.append(best)
            remarks.append(remark)
        began = time.perf_counter()
        scores = {name: self._scores(name, written) for name in self.scorers}
        remarks.append(f"Scored in {time.perf_counter() - began:.2f} seconds.")
        columns = [
            one.column(self.form, {name: values[index] for name, values in scores.items()})
            for index, one in enumerate(written)
        ]
        return Trial(read, columns, remarks)

    def _greedy(self, policy: Policy, prompt: str) -> Written:
        return self._write(f"{label(policy.name)}, greedy", policy, prompt, 1, GREEDY)[0]

    def _best_of_n(self, prompt: str) -> tuple[Written, str]:
        """The sample of the first policy that the reward model scores highest, and what the others were like."""
        set_seed(self.seed)
        policy = self.policies[0]
        drawn = self._write(f"best of {self.n}, {label(policy.name)}", policy, prompt, self.n, UNCUT)
        rewards = [-math.inf if reward is None else reward for reward in self._scores("reward", drawn)]
        different = len({one.response.text for one in drawn})
        remark = (
            f"{self.n} samples of {label(policy.name)} at temperature 1, {different} of them different: reward from "
            f"{min(rewards):.3f} to {max(rewards):.3f}, mean {sum(rewards) / len(rewards):.3f}."
        )
        return drawn[max(range(len(drawn)), key=rewards.__getitem__)], remark

    def _write(self, title: str, policy: Policy, prompt: str, count: int, how: dict[str, Any]) -> list[Written]:
        read = self.form.cut(prompt, policy.tokenizer, self.max_prompt_tokens)
        gen_kwargs = up_to(self.max_new_tokens, how)
        began = time.perf_counter()
        made = generate_texts(policy.model, policy.tokenizer, [read] * count, gen_kwargs, self.batch_size)
        seconds = time.perf_counter() - began
        return [Written(title, read, one, seconds) for one in made]

    def _scores(self, scorer: str, written: Sequence[Written]) -> list[float | None]:
        """One reward each, of the text and prompt as in the evaluation; None for what is no finite number."""
        prompts, responses = [one.prompt for one in written], [one.response for one in written]
        texts, ended = [one.text for one in responses], [one.ended for one in responses]
        scores = self.scorers[scorer].score(prompts, texts, ended)
        return [score if math.isfinite(score) else None for score in scores]


def _tokens(policy: Policy, prompt: str) -> int:
    return len(token_ids(policy.tokenizer, prompt))
