"""Is the score of a reward model read at the last real token, EOS included, whatever stands beside the text?

A score read one token early, or at a pad, is the fault that trains policies on noise without any other sign.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from launch.doctor.finding import Finding, judge
from launch.doctor.texts import TEXTS
from reward_model.encoding import encode, right_pad
from reward_model.invariance import Text, invariance
from reward_model.labels import has_labels
from reward_model.model import load_reward_model, score_head
from reward_model.scorer import RewardScorer
from trlx.utils.errors import UserError

TOLERANCE = 1e-3  # units of the score; float32 gives about 1e-6
LENGTH = 512
PADDING = "rewards would move with their neighbours: look at the pad token, or use another attention implementation"
PAD_TOKEN = "padding cannot be told from the end: give it a pad token of its own and train it anew (reward_model/)"
POSITION = "the reward would be that of unfinished text: make pad_token_id the same in config.json and tokenizer"


def load_and_examine(name: str, path: str, device: torch.device, label: str | None = None) -> list[Finding]:
    """`reward_findings` of a folder or hub id. Raises: UserError when it cannot be read or is no reward model."""
    model, tokenizer = load_reward_model(path, device=device, label=label)
    return reward_findings(name, model, tokenizer, label)


@torch.no_grad()
def reward_findings(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label: str | None = None
) -> list[Finding]:
    """Padding invariance and where the score is read; a text classifier has no score at a token, so padding alone.

    Args:
        name: what to call the model. model: in eval mode, on its device. tokenizer: its own.
        label: of a classifier, the one that is the reward; None for what its config says.
    """
    length = min(LENGTH, getattr(model.config, "max_position_embeddings", None) or LENGTH)
    findings = [_padding(name, model, tokenizer, length, label), _pad_token(name, model, tokenizer)]
    return findings if has_labels(model.config) else [*findings, _position(name, model, tokenizer, length)]


def _padding(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int, label: str | None
) -> Finding:
    def score(texts: Sequence[Text], size: int) -> list[float]:
        prompts, answers = zip(*texts, strict=True)
        return RewardScorer(model, tokenizer, length, size, label=label).score(prompts, answers)

    found = invariance(score, [(prompt, " " + summary) for prompt, summary in TEXTS])
    assert found is not None
    furthest = torch.tensor([found.padding, found.batch_size]).max().item()
    seen = f"scores change by up to {furthest:.1e} beside longer texts and in other batches"
    return judge(furthest <= TOLERANCE, f"padding, {name}", seen, PADDING)


def _pad_token(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Finding:
    pad, end = model.config.pad_token_id, tokenizer.eos_token_id
    return judge(pad is not None and pad != end, f"pad token, {name}", f"pad is {pad}, EOS is {end}", PAD_TOKEN)


def _position(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int) -> Finding:
    """At which token of each padded text the head's output is the score that the model gives."""
    what = f"score position, {name}"
    rows = [encode(tokenizer, prompt, " " + summary, True, length) for prompt, summary in TEXTS]
    ids, mask = (part.to(model.device) for part in right_pad(rows, model.config.pad_token_id or 0))
    try:
        with _token_scores(model) as seen:
            scores = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    except UserError as error:
        return Finding("warn", what, "cannot be told", str(error))
    places = [_places(scores[row], seen[0][row, :, 0]) for row in range(len(rows))]
    ends = [len(row) - 1 for row in rows]
    if any(len(found) != 1 for found in places):
        some = "several tokens have" if any(len(found) > 1 for found in places) else "no token has"
        return Finding(
            "warn", what, f"{some} the score of the text", "the head may be untrained: train it, then look again"
        )
    early = sorted({end - found[0] for end, found in zip(ends, places, strict=True)})
    good = early == [0] and all(row[-1] == tokenizer.eos_token_id for row in rows)
    shown = "at EOS, the last real token" if good else f"{', '.join(map(str, early))} before the last real token"
    return judge(good, what, f"the score is read {shown}", POSITION)


def _places(score: Tensor, of_tokens: Tensor) -> list[int]:
    """Which of the tokens' scores (T,) are the text's score."""
    return torch.nonzero((of_tokens - score).abs() <= 1e-6 * (1 + score.abs())).flatten().tolist()


@contextlib.contextmanager
def _token_scores(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Within the block, a forward appends the head's output at every token, (B, T, 1)."""
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, output: Tensor) -> None:
        seen.append(output)

    handle = score_head(model).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
