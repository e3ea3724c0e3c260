"""Stop sequences: found on the tail as in the whole text, across token boundaries, and where a response then ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_engine import END, EOS, VOCAB, random_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trlx.functional.padding import left_pad
from trlx.generation import sampling
from trlx.generation.sampling import generate, generate_texts
from trlx.generation.stopping import StopSequences
from trlx.utils.errors import UserError

PAD = 3


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, EOS with id 0, and a few tokens of several bytes: "Hu", "man", "Human", ":\\n", "né" whole."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("H", "u"), ("m", "a"), ("ma", "n"), ("Hu", "man"), (":", "Ċ"), ("n", "Ã"), ("nÃ", "©")]
    names = [END, *alphabet, *(a + b for a, b in pairs)]
    bpe = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=pairs))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, bos_token=END, unk_token=END)


TOKENIZER = merging_tokenizer()
PIECES = ["H", "u", "Hu", "man", "Human", ":", "\n", ":\n", "n", "né", "a", " "]


def piece(text: str) -> int:
    """The id of a piece that is one token."""
    return int(TOKENIZER.convert_tokens_to_ids(text.replace("\n", "Ċ").replace(" ", "Ġ").replace("é", "Ã©")))


IDS = [EOS, *(piece(text) for text in PIECES), *TOKENIZER("é", add_special_tokens=False)["input_ids"]]


@given(
    st.lists(st.sampled_from(IDS), max_size=40),
    st.lists(st.sampled_from(["Human:", "uma", "n\n", "é", "né:", "\n\n", " "]), min_size=1, max_size=3),
)
def test_the_tail_finds_what_the_whole_text_holds(tokens: list[int], texts: list[str]) -> None:
    """At every step, up to the first stop, against decoding everything again."""
    stops = StopSequences(texts, TOKENIZER)
    watch = stops.watch(1)
    for end in range(1, len(tokens) + 1):
        found = watch.completed([0], [tokens[end - 1]])[0]
        assert found == stops.found_in(TOKENIZER.decode(tokens[:end], skip_special_tokens=True))
        if found:
            break


@pytest.mark.parametrize("text", ["Human:", "né\n", "a"])
def test_a_stop_spelled_byte_by_byte_is_within_the_tail(text: str) -> None:
    """As many tokens as a stop can take, after others, with special tokens between."""
    tokens = [piece("u"), *TOKENIZER.convert_tokens_to_ids(list(text.replace("\n", "Ċ").replace("é", "Ã©")))]
    spaced = [part for token in tokens for part in (token, EOS, EOS)][:-2]
    watch = StopSequences(text, TOKENIZER).watch(1)
    found = [watch.completed([0], [token])[0] for token in [piece("H")] * 9 + spaced]
    assert found == [False] * (len(found) - 1) + [True]


def test_rows_are_followed_apart() -> None:
    watch = StopSequences("uH", TOKENIZER).watch(3)
    assert watch.completed([0, 1, 2], [piece("u"), piece("Hu"), piece("H")]) == [False] * 3
    assert watch.completed([2, 1], [piece("u"), piece("H")]) == [False, True]  # row 0 waits
    assert watch.completed([0, 2], [piece("H"), piece("Hu")]) == [True, True]


def test_a_special_token_as_stop() -> None:
    """Decoding leaves it out, so it is met as a token."""
    stops = StopSequences([END, "\n"], TOKENIZER)
    assert stops and stops.texts == ("\n",)
    assert stops.watch(1).completed([0], [EOS]) == [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" fine \n\nHuman: more", " fine"),
        (" a\nb Human:", " a"),  # the first in the text, not the first in the list
        (" nothing ", " nothing "),
        ("\nall", ""),
    ],
)
def test_trim_golden(text: str, expected: str) -> None:
    assert StopSequences(["Human:", "\n"], TOKENIZER).trim(text) == expected


@pytest.mark.parametrize("texts", ["", ["a", ""], [None]])
def test_empty_stops_are_refused(texts: Any) -> None:
    with pytest.raises(UserError, match="stop_sequences holds"):
        StopSequences(texts, TOKENIZER)
    assert not StopSequences([], TOKENIZER)


def spelling_mask(text: str) -> torch.Tensor:
    """Forbids all but the bytes of `text` one after the other, each byte occurring once."""
    ids = TOKENIZER.convert_tokens_to_ids([*text])
    forbidden = torch.ones(VOCAB, VOCAB, dtype=torch.bool)
    for token, following in zip(ids, [*ids[1:], EOS], strict=True):
        forbidden[token, following] = False
    return forbidden


@pytest.mark.parametrize("own", [True, False])
def test_a_response_ends_with_the_token_that_completes_a_stop(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model can only spell abcdefg: after "a" comes bcde, as "de" is a stop; after "f" come g and EOS."""
    if not own:
        monkeypatch.setattr(sampling, "suits", lambda model, gen_kwargs: False)
    stops = StopSequences(["xx", "de"], TOKENIZER)
    a, f = TOKENIZER.convert_tokens_to_ids(["a", "f"])
    made = generate(
        random_model("llama"),
        *left_pad([[a], [f]], PAD),
        {"max_new_tokens": 20},
        EOS,
        PAD,
        with_logprobs=True,
        stops=stops,
        logit_mask=spelling_mask("abcdefg"),
    )
    texts = [TOKENIZER.decode(row[real]) for row, real in zip(made.response, made.response_mask, strict=True)]
    assert texts == ["bcde", "g" + END]
    assert made.ended.tolist() == [True, True] and made.response.shape == (2, 4)
    assert made.response[1, 2:].tolist() == [PAD, PAD] and made.logprobs is not None


def test_generated_texts_are_cut_at_the_stop(tokenizer: PreTrainedTokenizerFast) -> None:
    model, prompts, settings = random_model("llama"), ["ab", "Human"], {"max_new_tokens": 12}
    free = generate_texts(model, tokenizer, prompts, settings, 2)
    stop = free[0].text[3:5]
    cut = generate_texts(model, tokenizer, prompts, settings, 2, stops=StopSequences(stop, tokenizer))
    assert cut[0].text == free[0].text[: free[0].text.find(stop)].rstrip()
    assert cut[0].ended and cut[0].tokens < free[0].tokens
