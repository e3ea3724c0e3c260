"""What a reward function is shown, and what it may give back."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny_engine import END, EOS
from transformers import PreTrainedTokenizerFast

from trlx.generation.sampling import Generated
from trlx.trainer.scoring import Texts, call_reward_fn, decode, score_all_ranks

TEXTS = Texts(["p", "q"], ["a" + END, "b"], ["pa" + END, "qb"], {"tag": [1, 2]})


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_eos_text_is_on_outputs_that_ended_and_on_no_other(tokenizer: PreTrainedTokenizerFast) -> None:
    query = torch.tensor([[EOS, *ids(tokenizer, "hi")], ids(tokenizer, "you")])
    query_mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    response = torch.tensor([[*ids(tokenizer, " a"), EOS, EOS], ids(tokenizer, " bcd")])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    texts = decode(
        tokenizer, query, query_mask, Generated(response, mask, torch.tensor([True, False])), {"tag": [1, 2]}
    )
    assert texts.prompts == ["hi", "you"]
    assert texts.outputs == [" a" + END, " bcd"]
    assert texts.samples == ["hi a" + END, "you bcd"]
    assert texts.metadata == {"tag": [1, 2]}


def test_an_empty_output_that_ended_is_eos_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    query = torch.tensor([ids(tokenizer, "hi")])
    made = Generated(torch.tensor([[EOS]]), torch.tensor([[True]]), torch.tensor([True]))
    assert decode(tokenizer, query, torch.ones_like(query), made, {}).outputs == [END]


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
    assert mine.tolist() == everyone.tolist() == [0.5, -1.0] and mine.dtype == torch.float32


@pytest.mark.parametrize(
    "scores", [[1, 2], (1.0, 2.0), torch.tensor([1.0, 2.0]), [torch.tensor(1.0), torch.tensor([2])]]
)
def test_numbers_of_every_kind(tokenizer: PreTrainedTokenizerFast, scores: Any) -> None:
    assert call_reward_fn(lambda **_: scores, tokenizer, TEXTS) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], "returned 1 scores for 2 samples"),
        ([1.0, 2.0, 3.0], "returned 3 scores for 2 samples"),
        ([1.0, float("nan")], "returned nan for sample 1: 'b'"),
        ([float("inf"), 1.0], "returned inf for sample 0"),
        ([[1.0, 2.0], [1.0, 2.0]], "one number a sample"),
        (torch.ones(2, 3), "one number a sample"),
    ],
)
def test_what_is_refused(tokenizer: PreTrainedTokenizerFast, scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call_reward_fn(lambda **_: scores, tokenizer, TEXTS)


def test_the_functions_own_error_comes_through(tokenizer: PreTrainedTokenizerFast) -> None:
    def reward_fn(**_: Any) -> list[float]:
        raise KeyError("no such post")

    with pytest.raises(KeyError, match="no such post"):
        score_all_ranks(Accelerator(cpu=True), reward_fn, tokenizer, TEXTS)


def test_joining_keeps_order() -> None:
    joined = Texts.join([TEXTS, Texts(["r"], ["c"], ["rc"], {"tag": [3]})])
    assert joined.prompts == ["p", "q", "r"] and joined.metadata == {"tag": [1, 2, 3]}
