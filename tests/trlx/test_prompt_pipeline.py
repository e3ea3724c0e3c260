"""Prompts as token ids: what is kept beside them, what is refused, and where they are cut."""

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from trlx.pipeline import get_pipeline
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.utils.errors import UserError


@pytest.fixture
def padded(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    own = copy.deepcopy(tokenizer)
    own.pad_token = own.eos_token
    return own


def test_batches_are_left_padded_and_carry_their_metadata(padded: PreTrainedTokenizerFast) -> None:
    prompts = [{"prompt": "ab", "tag": 1, "ref": "x"}, {"prompt": "abcd", "tag": 2, "ref": "y"}]
    batch = PromptPipeline(prompts, 10, padded).batch([1, 0])
    a, b, c, d = (padded.convert_tokens_to_ids(letter) for letter in "abcd")
    pad = padded.pad_token_id
    assert batch.input_ids.tolist() == [[a, b, c, d], [pad, pad, a, b]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]
    assert batch.texts == ["abcd", "ab"]
    assert batch.metadata == {"tag": [2, 1], "ref": ["y", "x"]}


def test_the_callers_dicts_stay_as_they_are(padded: PreTrainedTokenizerFast) -> None:
    prompts = [{"prompt": "ab", "tag": [1]}, {"prompt": "cd", "tag": [2]}]
    before = copy.deepcopy(prompts)
    PromptPipeline(prompts, 10, padded).batch([0, 1])
    assert prompts == before


@pytest.mark.parametrize(("side", "expected"), [("right", "abc"), ("left", "cde")])
def test_long_prompts_are_cut_on_the_tokenizers_side(padded: PreTrainedTokenizerFast, side: str, expected: str) -> None:
    padded.truncation_side = side
    pipeline = PromptPipeline(["abcde"], 3, padded)
    assert padded.decode(pipeline.token_ids[0]) == expected
    assert pipeline.batch([0]).texts == ["abcde"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts"),
        ([{"text": "a"}], r"prompt 0 must have the keys prompt"),
        ([{"prompt": "a", "tag": 1}, {"prompt": "b"}], r"prompt 1 must have the keys prompt, tag"),
        ([{"prompt": "a"}, {"prompt": "b", "tag": 1}], r"prompt 1 must have the keys prompt, not"),
        (["a", ""], r"prompt 1 is empty"),
    ],
)
def test_what_is_refused(padded: PreTrainedTokenizerFast, prompts: list, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PromptPipeline(prompts, 10, padded)
    assert "\n" not in str(caught.value)


def test_a_loader_covers_every_prompt(padded: PreTrainedTokenizerFast) -> None:
    loader = PromptPipeline([f"p{i}" for i in range(5)], 10, padded).create_loader(2, shuffle=True)
    assert sorted(text for batch in loader for text in batch.texts) == ["p0", "p1", "p2", "p3", "p4"]


def test_pipelines_are_found_by_name_in_any_case() -> None:
    assert get_pipeline("promptpipeline") is PromptPipeline
    with pytest.raises(UserError, match="did you mean 'promptpipeline'"):
        get_pipeline("PromtPipeline")
