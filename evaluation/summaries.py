"""What is judged: greedy summaries of a model, or a baseline's; and a model's samples for its KL to the baseline.

Prompts are continued longest first, in batches of similar length, a batch at a time (`evaluation.progress`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluation.decoding import GREEDY, up_to
from evaluation.kl import SampledResponse, response_logprobs, sample_responses
from evaluation.progress import Progress, digest
from trlx.generation.sampling import generate_texts


@dataclass(frozen=True)
class Summaries:
    """What one summarizer wrote after n prompts."""

    texts: list[str]  # as written: leading space kept, no EOS
    ended: list[bool]  # True = EOS within the limit
    tokens: list[int]  # of each response, EOS included


@dataclass(frozen=True)
class Writer:
    """A model that writes.

    Args:
        model: in evaluation mode, on its device. facts: what tells its state, JSON-able.
        max_new_tokens: longest response. batch_size: prompts continued at once.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    facts: Any
    max_new_tokens: int
    batch_size: int
    progress: Progress

    def greedy(self, prompts: Sequence[str]) -> Summaries:
        """The most likely token each time."""
        gen_kwargs = up_to(self.max_new_tokens, GREEDY)

        def write(_: int, rows: Sequence[int]) -> list[Any]:
            chosen = [prompts[i] for i in rows]
            made = generate_texts(self.model, self.tokenizer, chosen, gen_kwargs, self.batch_size, bar.update)
            return [[one.text, one.ended, one.tokens] for one in made]

        with tqdm(total=len(prompts), desc=f"{self.name}: generating", unit="post") as bar:
            made = self.progress.complete(
                f"{self.name}@greedy", [self._facts(prompts), gen_kwargs], self._chunks(prompts), write
            )
            bar.update(len(prompts) - bar.n)
        return Summaries(*map(list, zip(*made, strict=True)))

    def samples(self, prompts: Sequence[str], seed: int) -> list[SampledResponse]:
        """One response a prompt at temperature 1, uncut; each chunk has random numbers of its own."""

        def sample(number: int, rows: Sequence[int]) -> list[Any]:
            chosen = [prompts[i] for i in rows]
            made = sample_responses(
                self.model,
                self.tokenizer,
                chosen,
                self.max_new_tokens,
                self.batch_size,
                seed + number,
                bar.update,
            )
            return [[one.prompt_ids, one.response_ids, one.logprobs.tolist()] for one in made]

        with tqdm(total=len(prompts), desc=f"{self.name}: sampling for the KL", unit="post") as bar:
            made = self.progress.complete(
                f"{self.name}@samples", [self._facts(prompts), seed], self._chunks(prompts), sample
            )
            bar.update(len(prompts) - bar.n)
        return [SampledResponse(prompt, response, torch.tensor(logprobs)) for prompt, response, logprobs in made]

    def logprobs_of(self, name: str, samples: Sequence[SampledResponse]) -> list[torch.Tensor]:
        """This model's log-probabilities, in nats, of each token that the model called `name` sampled."""

        def read(_: int, rows: Sequence[int]) -> list[Any]:
            prompts, responses = [samples[i].prompt_ids for i in rows], [samples[i].response_ids for i in rows]
            found = response_logprobs(self.model, prompts, responses, self.batch_size, bar.update)
            return [values.tolist() for values in found]

        ids = [[sample.prompt_ids, sample.response_ids] for sample in samples]
        with tqdm(total=len(samples), desc=f"{name}: KL to {self.name}", unit="post") as bar:
            made = self.progress.complete(
                f"{name}@under_{self.name}", [self.facts, self.batch_size, digest(ids)], self._parts(ids), read
            )
            bar.update(len(samples) - bar.n)
        return [torch.tensor(values) for values in made]

    def _facts(self, prompts: Sequence[str]) -> Any:
        return [self.facts, self.max_new_tokens, self.batch_size, digest(list(prompts))]

    def _chunks(self, prompts: Sequence[str]) -> list[list[int]]:
        encoded = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        return self._parts(encoded)

    def _parts(self, rows: Sequence[Sequence[Any]]) -> list[list[int]]:
        """Indices longest first, a batch in each part."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]


def of_baseline(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Summaries:
    """A baseline's summaries, which always end; tokens are those of the given tokenizer, with EOS."""
    spaced = [" " + text if text else "" for text in texts]
    lengths = [len(ids) + 1 for ids in tokenizer(spaced, add_special_tokens=False)["input_ids"]] if texts else []
    return Summaries(spaced, [True] * len(spaced), lengths)
