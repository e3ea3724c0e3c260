"""Scores must not depend on what a text is batched with; a scorer that is sensitive on purpose is found out."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny_stage import tiny_tokenizer
from transformers import GPTNeoConfig

from reward_model.gate import measure_invariance
from reward_model.invariance import invariance, spread_by_length
from reward_model.model import PAD_TOKEN
from reward_model.scorer import RewardScorer

TEXTS = [("POST: p\nTL;DR:", " ".join(["word"] * (number + 1))) for number in range(10)]


def test_a_score_of_the_text_alone_is_invariant() -> None:
    found = invariance(lambda texts, size: [float(len(text)) for _, text in texts], TEXTS)
    assert found is not None and (found.padding, found.batch_size, found.texts) == (0.0, 0.0, 10)


def test_each_kind_of_change_is_measured_by_itself() -> None:
    def by_width(texts: Sequence[tuple[str, str]], size: int) -> list[float]:
        """Moves with the longest of its own batch, as one that reads pads does."""
        lengths = [len(text) for _, text in texts]
        order = sorted(range(len(texts)), key=lambda index: -lengths[index])
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        widest = {index: max(lengths[one] for one in batch) for batch in batches for index in batch}
        return [0.001 * widest[index] for index in range(len(texts))]

    found = invariance(by_width, TEXTS)
    # the shortest has 4 letters, the longest 10·4 + 9 = 49: its score moves from 0.004 to 0.049
    assert found is not None and found.padding == pytest.approx(0.045) and found.batch_size == pytest.approx(0.045)

    found = invariance(lambda texts, size: [1.0 if size == 7 else 0.5] * len(texts), TEXTS)
    assert found is not None and (found.padding, found.batch_size) == (0.0, 0.5)


def test_not_a_number_stays_not_a_number() -> None:
    found = invariance(lambda texts, size: [float("nan") if size == 2 else 0.0] * len(texts), TEXTS)
    assert found is not None and found.padding != found.padding and found.batch_size != found.batch_size


def test_texts_from_the_shortest_to_the_longest() -> None:
    assert spread_by_length(TEXTS[::-1], 4) == [TEXTS[0], TEXTS[3], TEXTS[6], TEXTS[9]]
    assert spread_by_length([*TEXTS, *TEXTS], 99) == TEXTS
    assert invariance(lambda texts, size: [0.0] * len(texts), TEXTS[:1] * 5) is None


class MeanOfIds(torch.nn.Module):
    """A head over the mean of all token ids; with `masked` over those of real tokens alone."""

    def __init__(self, pad: int, masked: bool) -> None:
        super().__init__()
        self.masked, self.device = masked, torch.device("cpu")
        self.config = GPTNeoConfig(pad_token_id=pad, num_labels=1, max_position_embeddings=512)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        mask = attention_mask if self.masked else torch.ones_like(attention_mask)
        means = (input_ids * mask).sum(1) / mask.sum(1)
        return type("Output", (), {"logits": means[:, None].float()})()


@pytest.mark.parametrize("masked", [True, False])
def test_a_model_that_reads_its_pads_is_found_out(masked: bool, tmp_path: Any) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    scorer = RewardScorer(MeanOfIds(tokenizer.pad_token_id, masked), tokenizer, max_length=512, batch_size=4)
    found = measure_invariance(scorer, TEXTS)
    assert found is not None and scorer.batch_size == 4
    assert (found.padding > 1) == (found.batch_size > 1) == (not masked)
    assert not masked or found.padding < 1e-4
