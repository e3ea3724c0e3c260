"""What a reward function is shown, and what it may give back."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_engine import END
from transformers import PreTrainedTokenizerFast

from trlx.trainer.scoring import Scores, Texts, call_reward_fn, score_all_ranks
from trlx.utils.errors import UserError

TEXTS = Texts(["p", "q"], ["a" + END, "b"], ["pa" + END, "qb"], {"tag": [1, 2]})


def test_everything_is_passed_by_name_and_the_function_called_once(tokenizer: PreTrainedTokenizerFast) -> None:
    calls: list[dict[str, Any]] = []

    def reward_fn(**given: Any) -> list[float]:
        calls.append(given)
        return [0.5, -1.0]

    mine, everyone = score_all_ranks(Accelerator(cpu=True), reward_fn, tokenizer, TEXTS)
    assert calls == [
        {
            "samples": TEXTS.samples,
            "prompts": TEXTS.prompts,
            "outputs": TEXTS.outputs,
            "tokenizer": tokenizer,
            "tag": [1, 2],
        }
    ]
    assert mine.totals.tolist() == everyone.totals.tolist() == [0.5, -1.0] and mine.totals.dtype == torch.float32


@pytest.mark.parametrize(
    "scores", [[1, 2], (1.0, 2.0), torch.tensor([1.0, 2.0]), [torch.tensor(1.0), torch.tensor(2)], [True, 2]]
)
def test_numbers_of_every_kind(tokenizer: PreTrainedTokenizerFast, scores: Any) -> None:
    got = call_reward_fn(lambda **_: scores, tokenizer, TEXTS)
    assert got.rows == [[1.0], [2.0]] and not got.dense
    assert got.tensor([3, 1]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "scores",
    [
        [[1.0, 2.0, 4.0], [8.0]],
        [torch.tensor([1.0, 2.0, 4.0]), torch.tensor([8.0])],
        [torch.tensor([1.0, 2.0, 4.0]), [8.0]],
    ],
)
def test_lists_are_dense(tokenizer: PreTrainedTokenizerFast, scores: Any) -> None:
    got = call_reward_fn(lambda **_: scores, tokenizer, TEXTS)
    assert got.dense and got.rows == [[1.0, 2.0, 4.0], [8.0]]
    assert got.totals.tolist() == [7.0, 8.0]
    assert got.tensor([3, 2]).tolist() == [[1, 2, 4], [8, 0, 0]]  # filled with 0
    assert got.tensor([2, 1]).tolist() == [[1, 2], [8, 0]]  # cut
    assert got.clipped(3.0).totals.tolist() == [6.0, 3.0]  # each number, not the sum


def test_a_tensor_of_rows_is_dense(tokenizer: PreTrainedTokenizerFast) -> None:
    assert call_reward_fn(lambda **_: torch.ones(2, 3), tokenizer, TEXTS).rows == [[1.0] * 3] * 2


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "returned 1 scores for 2 samples"),
        ([1.0, 2.0, 3.0], "returned 3 scores for 2 samples"),
        ([1.0, float("nan")], "returned nan, which is not finite, for sample 1: 'b'"),
        ([float("inf"), 1.0], "returned inf, which is not finite, for sample 0"),
        ([[1.0, 2.0], 1.0], "one number for each sample, or a list of numbers for each"),
        ([1.0, [1.0]], "one number for each sample, or a list of numbers for each"),
        (torch.ones(2, 3, 1), "one number for each sample, or a list"),
        (["x" * 200, 1.0], "must return numbers, not 'xxx"),
    ],
)
def test_what_is_refused(tokenizer: PreTrainedTokenizerFast, scores: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call_reward_fn(lambda **_: scores, tokenizer, TEXTS)
    assert len(str(caught.value)) < 200


def test_the_functions_own_error_comes_through(tokenizer: PreTrainedTokenizerFast) -> None:
    def reward_fn(**_: Any) -> list[float]:
        raise KeyError("no such post")

    with pytest.raises(KeyError, match="no such post"):
        score_all_ranks(Accelerator(cpu=True), reward_fn, tokenizer, TEXTS)


def test_joining_keeps_order_and_parts_cut_it() -> None:
    joined = Texts.join([TEXTS, Texts(["r"], ["c"], ["rc"], {"tag": [3]})])
    assert joined.prompts == ["p", "q", "r"] and joined.metadata == {"tag": [1, 2, 3]}
    assert Scores([[1.0], [2.0], [3.0]], False).part(1, 3).totals.tolist() == [2.0, 3.0]
