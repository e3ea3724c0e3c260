"""Rollouts that come with pads, as trlX's scripts push them: what is kept of each, by hand."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trlx.data.ppo_types import PPORLElement
from trlx.pipeline import BaseRolloutStore
from trlx.pipeline.ppo_pipeline import PPORolloutStorage
from trlx.utils.errors import UserError

PAD, EOS = 9, 8


def element(query: list[int], response: list[int], rewards: list[float], width: int | None = None) -> PPORLElement:
    """Log-probs −1, −2, …, values 1, 2, …, of `width` places, the response's by default."""
    numbers = torch.arange(1, (len(response) if width is None else width) + 1).float()
    return PPORLElement(torch.tensor(query), torch.tensor(response), -numbers, numbers, torch.tensor(rewards))


def stripped(given: PPORLElement, pad: int = PAD, side: str = "left") -> PPORLElement:
    store = PPORolloutStorage(pad, side, EOS)
    store.push([given])
    return store[0]


def lists(kept: PPORLElement) -> list[list[float]]:
    fields = (kept.query_tensor, kept.response_tensor, kept.logprobs, kept.values, kept.rewards)
    return [field.tolist() for field in fields]


def test_pads_go_and_what_belongs_to_them() -> None:
    kept = stripped(element([PAD, PAD, 1, 2], [3, 4, EOS, PAD, PAD], [0.1, 0.2, 5.0, 0.0, 0.0]))
    assert lists(kept)[:4] == [[1, 2], [3, 4, EOS], [-1, -2, -3], [1, 2, 3]]
    assert kept.rewards.tolist() == pytest.approx([0.1, 0.2, 5.0])
    assert kept.clean


def test_a_score_past_the_end_goes_to_the_last_real_token() -> None:
    # trlX put it on a pad: the sum of what lies past the EOS, 0.5 + 4, joins the EOS's own 0.25
    kept = stripped(element([1], [3, EOS, PAD, PAD], [1.0, 0.25, 0.5, 4.0]))
    assert kept.rewards.tolist() == [1.0, 4.75]


def test_where_pad_is_eos_the_first_of_them_is_real() -> None:
    kept = stripped(element([EOS, EOS, 1], [3, 4, EOS, EOS, EOS], [0.0, 0.0, 0.0, 0.0, 7.0]), pad=EOS)
    assert lists(kept) == [[1], [3, 4, EOS], [-1, -2, -3], [1, 2, 3], [0, 0, 7]]
    # a response that was cut has none
    assert stripped(element([1], [3, 4, 5], [0, 0, 7.0]), pad=EOS).response_tensor.tolist() == [3, 4, 5]


def test_a_response_that_ends_at_once_is_one_token() -> None:
    assert lists(stripped(element([1], [EOS, EOS, EOS], [0, 0, 3.0]), pad=EOS)) == [[1], [EOS], [-1], [1], [3]]
    assert stripped(element([1], [EOS, PAD], [2.0, 0])).response_tensor.tolist() == [EOS]


def test_pads_inside_a_row_stay() -> None:
    assert stripped(element([PAD, 1, PAD, 2], [3, PAD, 4], [0, 0, 1.0])).query_tensor.tolist() == [1, PAD, 2]
    assert stripped(element([1], [3, PAD, 4, PAD], [0, 0, 0, 1.0])).response_tensor.tolist() == [3, PAD, 4]


def test_prompts_padded_on_the_right() -> None:
    assert stripped(element([1, 2, PAD], [3], [1.0]), side="right").query_tensor.tolist() == [1, 2]


def test_the_shortest_of_the_tensors_decides() -> None:
    """trlX's log-probs and values may be one shorter or longer than the response."""
    kept = stripped(element([1], [3, 4, 5], [0.5, 1.0, 2.0], width=2))
    assert lists(kept) == [[1], [3, 4], [-1, -2], [1, 2], [0.5, 3.0]]
    kept = stripped(element([1], [3, 4], [0.5], width=4))
    assert lists(kept) == [[1], [3, 4], [-1, -2], [1, 2], [0.5, 0]]


def test_clean_elements_are_taken_as_they_are() -> None:
    given = element([PAD, 1], [3, PAD], [0, 1.0])
    given.clean = True
    assert stripped(given) is given


@pytest.mark.parametrize("missing", ["response_tensor", "logprobs", "values", "rewards"])
def test_a_rollout_without_a_part_is_refused(missing: str) -> None:
    given = element([1], [3, 4], [0, 1.0])
    empty: Tensor = getattr(given, missing)[:0]
    setattr(given, missing, empty)
    with pytest.raises(UserError, match="must have a response with log-probs, values and rewards"):
        stripped(given)


def test_history() -> None:
    store = PPORolloutStorage(PAD, eos_token_id=EOS)
    assert store.state() is None
    store.push([element([1], [3], [1.0])])
    store.push(iter([element([1], [4], [2.0])]))
    assert len(store) == len(store.history) == 2
    state = store.state()
    store.clear_history()
    assert len(store) == 0
    store.load_state(state, "cpu")
    assert [kept.rewards.tolist() for kept in store] == [[1.0], [2.0]]
    store.load_state(None, "cpu")
    assert len(store) == 0


def test_exporting(tmp_path: Path) -> None:
    store = PPORolloutStorage(PAD, "left", EOS)
    assert isinstance(store, BaseRolloutStore)
    store.push([element([PAD, 1], [3, EOS], [0.5, 1.0])])
    for only_text in (True, False):
        store.export_history(str(tmp_path / "out"), only_text)
    first, second = (json.loads(file.read_text()) for file in sorted((tmp_path / "out").glob("epoch-*.json")))
    assert first == [{"query_tensor": [1], "response_tensor": [3, EOS]}]
    assert second == [{**first[0], "logprobs": [-1, -2], "values": [1, 2], "rewards": [0.5, 1.0]}]
