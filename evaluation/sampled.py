"""Several samples a post of one policy, what they are worth, and how far they are from the SFT model.

All policies of a frontier are sampled alike: temperature 1, no top-k or top-p, the same prompts. Everything goes
through `Progress`, a chunk of responses at a time, each with a seed of its own: what is finished is not done again, and
what is still to do comes out as if nothing had been interrupted. A model is loaded only when it has something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from evaluation.decoding import UNCUT, up_to
from evaluation.judge import gold_scores, require_finite
from evaluation.kl import response_logprobs, sample_responses
from evaluation.policies import load_policy, release_memory, require_fit
from evaluation.progress import Progress, digest
from evaluation.rouge_scores import rouge_average, rouge_f1
from reward_model.scorer import RewardScorer
from tasks.records import Post
from tasks.task import Task
from trlx.functional.kl import k1, k3
from trlx.generation.sampling import generate_texts

Array = NDArray[np.float64]
M = TypeVar("M")
Done = Callable[[int], object]  # told how many responses were just finished
_BATCHES_AT_ONCE = 4  # how much is done again after an interruption, at most


@dataclass(frozen=True)
class Samples:
    """`per_post` responses to each of P posts; the k-th to post p is row p · per_post + k of every list."""

    per_post: int
    texts: list[str]  # as written: leading space kept, no EOS
    ended: list[bool]  # True = EOS within the limit
    tokens: list[int]  # of each response, EOS included

    def per_row(self, values: Sequence[Any]) -> list[Any]:
        """What belongs to posts, once for every response."""
        return [value for value in values for _ in range(self.per_post)]

    def by_post(self, values: Sequence[float]) -> Array:
        """(P, per_post) of one number a response."""
        return np.asarray(values, dtype=np.float64).reshape(-1, self.per_post)


@dataclass(frozen=True)
class Tracked(Samples):
    """Samples with what their KL needs."""

    ids: list[list[int]]  # of the responses, EOS included where they ended
    logprobs: list[list[float]]  # of those tokens, in nats, by the policy that wrote them


@dataclass(frozen=True)
class Sampler:
    """What all policies of a frontier share.

    Args:
        tokenizer: of all of them. prompts: cut already.
        max_new_tokens: longest response. batch_size: responses at once. seed: of the sampling.
        dtype, device: of the policies.
    """

    tokenizer: PreTrainedTokenizerBase
    prompts: list[str]
    max_new_tokens: int
    batch_size: int
    seed: int
    dtype: torch.dtype
    device: torch.device
    progress: Progress

    def draw(self, name: str, path: str, content: str, per_post: int) -> Samples:
        """Responses of the policy in a folder, of which no KL is wanted.

        Args:
            name: for the eye. content: digest of its weights; samples of other weights are not taken for its own.
        """
        gen_kwargs = up_to(self.max_new_tokens, UNCUT)

        def write(model: PreTrainedModel, prompts: list[str], seed: int, done: Done) -> list[Any]:
            set_seed(seed)
            made = generate_texts(model, self.tokenizer, prompts, gen_kwargs, self.batch_size, done)
            return [[one.text, one.ended, one.tokens] for one in made]

        made = self._sampled(name, path, content, per_post, "texts", write)
        return Samples(per_post, *map(list, zip(*made, strict=True)))

    def draw_tracked(self, name: str, path: str, content: str, per_post: int) -> Tracked:
        """The same with token ids and log-probabilities."""
        eos = self.tokenizer.eos_token_id

        def write(model: PreTrainedModel, prompts: list[str], seed: int, done: Done) -> list[Any]:
            made = sample_responses(model, self.tokenizer, prompts, self.max_new_tokens, self.batch_size, seed, done)
            return [[one.response_ids, one.logprobs.tolist()] for one in made]

        made = self._sampled(name, path, content, per_post, "tokens", write)
        ids, logprobs = map(list, zip(*made, strict=True))
        ended = [bool(row) and row[-1] == eos for row in ids]
        kept = [row[:-1] if done else row for row, done in zip(ids, ended, strict=True)]
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return Tracked(per_post, [str(text) for text in texts], ended, [len(row) for row in ids], ids, logprobs)

    def _sampled(
        self,
        name: str,
        path: str,
        content: str,
        per_post: int,
        form: str,
        write: Callable[[PreTrainedModel, list[str], int, Done], list[Any]],
    ) -> list[Any]:
        """What `write` makes of `per_post` copies of every prompt, chunk by chunk."""
        prompts = [prompt for prompt in self.prompts for _ in range(per_post)]

        def sample(number: int, rows: Sequence[int]) -> list[Any]:
            return write(policy(), [prompts[row] for row in rows], self.seed + number, bar.update)

        depends_on = [content, str(self.dtype), self.max_new_tokens, self.batch_size, self.seed, digest(prompts)]
        chunks = self._chunks([len(prompt) for prompt in prompts])
        with _bar(name, "sampling", len(prompts)) as bar, loaded_late(lambda: self.load(name, path)) as policy:
            made = self.progress.complete(f"{digest(content)[:16]}_{form}_{per_post}", depends_on, chunks, sample)
            bar.update(len(prompts) - bar.n)
        return made

    def kl_to(
        self, reference: Callable[[], PreTrainedModel], content: str, name: str, samples: Tracked
    ) -> tuple[Array, Array]:
        """(P,) Σ_t k1_t and Σ_t k3_t of samples against a reference, in nats, mean over each post's responses.

        Args:
            reference: the loaded model. content: digest of its weights. name: of the policy that wrote, for the eye.
        """
        encoded = self.tokenizer(self.prompts, add_special_tokens=False)["input_ids"]
        prompts = samples.per_row([list(ids) for ids in encoded])

        def read(_: int, rows: Sequence[int]) -> list[Any]:
            model = reference()
            ids = [samples.ids[row] for row in rows]
            theirs = response_logprobs(model, [prompts[row] for row in rows], ids, self.batch_size, bar.update)
            own = [torch.tensor(samples.logprobs[row]) for row in rows]
            pairs = list(zip(own, theirs, strict=True))
            return [[float(k1(pi, ref).sum()), float(k3(pi, ref).sum())] for pi, ref in pairs]

        whole = digest([samples.ids, samples.logprobs])
        depends_on = [content, str(self.dtype), self.batch_size, digest(prompts), whole]
        chunks = self._chunks([len(p) + len(r) for p, r in zip(prompts, samples.ids, strict=True)])
        with _bar(name, "KL to SFT", len(prompts)) as bar:
            made = self.progress.complete(f"{whole[:16]}_kl_{digest(content)[:16]}", depends_on, chunks, read)
            bar.update(len(prompts) - bar.n)
        first, third = (samples.by_post(column).mean(axis=1) for column in zip(*made, strict=True))
        return first, third

    def load(self, name: str, path: str) -> PreTrainedModel:
        """The policy in a folder. Raises: UserError when it cannot be read, or prompts and responses do not fit."""
        model = load_policy(path, self.dtype, self.device)
        require_fit(name, model, self.tokenizer, self.prompts, self.max_new_tokens)
        return model

    def _chunks(self, lengths: Sequence[int]) -> list[list[int]]:
        """Rows longest first, a few batches in each chunk."""
        order = sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)
        size = self.batch_size * _BATCHES_AT_ONCE
        return [order[start : start + size] for start in range(0, len(order), size)]


@contextmanager
def loaded_late(load: Callable[[], M]) -> Iterator[Callable[[], M]]:
    """Yields a function that loads a model when it is first called; its memory is given back at the end."""
    held: list[M] = []

    def model() -> M:
        if not held:
            held.append(load())
        return held[0]

    try:
        yield model
    finally:
        held.clear()
        release_memory()


def rewards(
    progress: Progress,
    name: str,
    scorer: Callable[[], RewardScorer],
    facts: Any,
    prompts: Sequence[str],
    samples: Samples,
) -> Array:
    """(P, per_post) scores of a reward model.

    Args:
        name: of the policy, for the eye. scorer: the loaded reward model. facts: what tells its state, JSON-able.
        prompts: one a post.
    """
    rows = list(zip(samples.per_row(list(prompts)), samples.texts, samples.ended, strict=True))

    def score(_: int, chosen: Sequence[int]) -> list[float]:
        found = scorer().score(*(list(column) for column in zip(*(rows[row] for row in chosen), strict=True)))
        bar.update(len(chosen))
        require_finite(found, f"a reward model of {name}")
        return found

    order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]) + len(rows[row][1]), reverse=True)
    chunks = [order[start : start + 512] for start in range(0, len(order), 512)]
    whole = digest([list(row) for row in rows])
    with _bar(name, "scoring", len(rows)) as bar:
        made = progress.complete(f"{whole[:16]}_rewards_{digest(facts)[:16]}", [facts, whole], chunks, score)
        bar.update(len(rows) - bar.n)
    return samples.by_post(made)


def text_measures(task: Task, posts: Sequence[Post], samples: Samples) -> dict[str, Array]:
    """What needs no model, (P, per_post) each: gold where the task knows it, ROUGE, and length in tokens with EOS."""
    summaries = [text.strip() for text in samples.texts]
    rows = samples.per_row(list(posts))
    measures = _rouge(summaries, [post.summary for post in rows])
    gold = gold_scores(task, rows, summaries, samples.ended)
    if gold is not None:
        measures["gold"] = gold
    measures["response_tokens"] = [float(count) for count in samples.tokens]
    return {name: samples.by_post(values) for name, values in measures.items()}


def _rouge(summaries: Sequence[str], references: Sequence[str]) -> dict[str, list[float]]:
    """Each distinct pair is compared once: a sure policy often writes the same."""
    pairs = list(zip(summaries, references, strict=True))
    distinct = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    scores = rouge_f1([pair[0] for pair in distinct], [pair[1] for pair in distinct])
    scores["rouge_average"] = rouge_average(scores)
    return {name: [values[distinct[pair]] for pair in pairs] for name, values in scores.items()}


def _bar(name: str, what: str, total: int) -> tqdm:
    return tqdm(total=total, desc=f"{name}: {what}", unit="response")
