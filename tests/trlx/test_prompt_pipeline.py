"""Prompts as token ids: what is kept beside them, what is refused, and where they are cut."""

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from trlx.pipeline import MiniBatchIterator, get_pipeline
from trlx.pipeline.offline_pipeline import PromptPipeline
from trlx.utils.errors import UserError
from trlx.utils.pretrained import load_tokenizer


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


def test_batches_read_as_mappings_too(padded: PreTrainedTokenizerFast) -> None:
    pipeline = PromptPipeline([{"prompt": "ab", "tag": 1}, {"prompt": "c", "tag": 2}], 10, padded)
    (batch,) = pipeline.create_loader(2)
    assert list(batch) == ["input_ids", "attention_mask", "tag"]
    assert batch["input_ids"] is batch.input_ids and batch["attention_mask"] is batch.attention_mask
    assert batch["tag"] == [1, 2] and "prompt" not in batch and len(batch) == 2
    assert set({**batch}) == set(batch.keys())
    with pytest.raises(KeyError):
        batch["texts"]
    moved = batch.to("cpu")
    assert moved.texts == ["ab", "c"] and moved["tag"] == [1, 2]


def test_batches_split_into_microbatches_with_their_metadata(padded: PreTrainedTokenizerFast) -> None:
    pipeline = PromptPipeline([{"prompt": letter * 2, "tag": letter} for letter in "abcde"], 10, padded)
    steps = list(MiniBatchIterator(pipeline.create_loader(3), mb_size=2, num_mb=2))
    assert [[part["tag"] for part in parts] for parts in steps] == [[["a", "b"], ["c"]], [["d", "e"]]]
    assert [[len(part["input_ids"]) for part in parts] for parts in steps] == [[2, 1], [2]]
    assert steps[0][1].texts == ["cc"]


def test_one_prompt_is_a_dict_of_its_ids_and_metadata(padded: PreTrainedTokenizerFast) -> None:
    pipeline = PromptPipeline([{"prompt": "ab", "tag": 1}], 10, padded)
    assert pipeline[0] == {"input_ids": pipeline.token_ids[0], "attention_mask": [1, 1], "tag": 1}


def test_a_sampler_chooses_the_prompts_of_a_loader(padded: PreTrainedTokenizerFast) -> None:
    pipeline = PromptPipeline(list("abcde"), 10, padded)
    loader = pipeline.create_loader(2, sampler=[4, 0, 2], drop_last=True)
    assert [batch.texts for batch in loader] == [["e", "a"]]


def test_the_callers_dicts_stay_as_they_are(padded: PreTrainedTokenizerFast) -> None:
    prompts = [{"prompt": "ab", "tag": [1]}, {"prompt": "cd", "tag": [2]}]
    before = copy.deepcopy(prompts)
    PromptPipeline(prompts, 10, padded).batch([0, 1])
    assert prompts == before


@pytest.mark.parametrize(("side", "expected"), [("right", "abc"), ("left", "cde")])
def test_long_prompts_are_cut_on_the_tokenizers_side(padded: PreTrainedTokenizerFast, side: str, expected: str) -> None:
    padded.truncation_side = side
    with pytest.warns(UserWarning, match=rf"1 of 2 prompts have more than 3 tokens \(the longest 5\).* on the {side}"):
        pipeline = PromptPipeline(["abcde", "abc"], 3, padded)
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
        (["a", 7], r"prompt 1 must be text, not int"),
        ([{"prompt": None}], r"prompt 0 must be text, not NoneType"),
        ("a text", "give a list of texts"),
        ([{"prompt": "a", "outputs": "b"}], "cannot have a key 'outputs'"),
    ],
)
def test_what_is_refused(padded: PreTrainedTokenizerFast, prompts: list, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        PromptPipeline(prompts, 10, padded)
    assert "\n" not in str(caught.value)


def test_there_must_be_room_for_a_token(padded: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="max_prompt_length is 0"):
        PromptPipeline(["a"], 0, padded)


def test_a_loader_covers_every_prompt(padded: PreTrainedTokenizerFast) -> None:
    loader = PromptPipeline([f"p{i}" for i in range(5)], 10, padded).create_loader(2, shuffle=True)
    assert sorted(text for batch in loader for text in batch.texts) == ["p0", "p1", "p2", "p3", "p4"]


def test_pipelines_are_found_by_name_in_any_case() -> None:
    assert get_pipeline("promptpipeline") is PromptPipeline
    with pytest.raises(UserError, match="did you mean 'promptpipeline'"):
        get_pipeline("PromtPipeline")


def test_all_prompts_as_trlx_gives_them(tokenizer_folder: str) -> None:
    pipeline = PromptPipeline([{"prompt": "ab", "n": 1}, {"prompt": "c", "n": 2}], 9, load_tokenizer(tokenizer_folder))
    assert [row["n"] for row in pipeline.prompts] == [1, 2]
    assert [len(row["input_ids"]) for row in pipeline.prompts] == [2, 1]
