"""What is left of a prompt that is too long, whichever end of it is kept."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import instruct
from tasks.encoding.cutting import fit
from tasks.form import Keep, Parts, TextForm, token_ids
from trlx.pipeline.batch_tokenizer import BatchTokenizer
from trlx.utils.errors import UserError

DIALOGUE = "\n\nHuman: My cat is lost.\n\nAssistant: Where was it?\n\nHuman: In the garden.\n\nAssistant:"


class Letters:
    """A tokenizer of one id a character, so that lengths can be worked out by hand."""

    eos_token_id = 0

    def __call__(self, text: str, return_offsets_mapping: bool = False, **_: Any) -> dict[str, Any]:
        spans = [(place, place + 1) for place in range(len(text))]
        return {"input_ids": [ord(letter) for letter in text], "offset_mapping": spans}


class Unaligned(Letters):
    """One that cannot say where its tokens are."""

    def __call__(self, text: str, return_offsets_mapping: bool = False, **_: Any) -> dict[str, Any]:
        if return_offsets_mapping:
            raise NotImplementedError
        return super().__call__(text)


def form(keep: Keep, head: str = "<", closing: str = ">") -> TextForm:
    """Prompts of a head, any text, a closing; they come as they are."""

    def split(prompt: str) -> Parts:
        return Parts(head, prompt[len(head) : len(prompt) - len(closing)], closing, keep)

    return TextForm(lambda text: text, lambda text: text.strip(), split, stays="the brackets")


# ---------------------------------------------------------------- worked by hand


@pytest.mark.parametrize(
    "keep, most, left",
    [
        ("start", 14, "<ab cd\nef\nghi>"),
        ("start", 13, "<ab cd\nef>"),
        ("start", 9, "<ab cd>"),
        ("start", 6, "<ab c>"),  # not one line fits: its tokens go
        ("start", 5, "<ab>"),
        ("start", 2, "<>"),
        ("end", 14, "<ab cd\nef\nghi>"),
        ("end", 13, "<ef\nghi>"),
        ("end", 7, "<ghi>"),
        ("end", 4, "<hi>"),
        ("end", 3, "<i>"),
        ("end", 2, "<>"),
    ],
)
@pytest.mark.parametrize("tokenizer", [Letters(), Unaligned()], ids=["aligned", "unaligned"])
def test_lines_go_before_tokens(keep: Keep, most: int, left: str, tokenizer: Any) -> None:
    assert form(keep).cut("<ab cd\nef\nghi>", tokenizer, most) == left


def test_what_must_stay_and_does_not_fit_is_an_error() -> None:
    with pytest.raises(UserError, match=r"more than 1 tokens for the brackets alone: raise .* \(it begins '<abc>'\)"):
        form("end").cut("<abc>", Letters(), 1)


def test_a_dialogue_loses_its_first_turns() -> None:
    whole = len(DIALOGUE)
    assert instruct.FORM.cut(DIALOGUE, Letters(), whole) == DIALOGUE
    later = "Assistant: Where was it?\n\nHuman: In the garden.\n\nAssistant:"
    assert instruct.FORM.cut(DIALOGUE, Letters(), whole - 1) == "Human: My cat is lost.\n\n" + later
    assert instruct.FORM.cut(DIALOGUE, Letters(), len(later)) == later
    assert instruct.FORM.cut(DIALOGUE, Letters(), len(later) - 1) == later.removeprefix("A")
    last = "\n\nHuman: In the garden.\n\nAssistant:"
    assert instruct.FORM.cut(DIALOGUE, Letters(), len(last)) == last
    with pytest.raises(UserError, match="or the last turn alone"):
        instruct.FORM.cut(DIALOGUE, Letters(), len(last) - 1)


def test_a_single_turn_loses_its_beginning_and_keeps_its_speaker() -> None:
    cut = instruct.FORM.cut("\n\nHuman: Once there was a cat.\n\nAssistant:", Letters(), 28)
    assert cut == "\n\nHuman: a cat.\n\nAssistant:" and len(cut) == 27
    assert instruct.split_prompt("\n\n\n\nHuman: a cat.\n\nAssistant:").body == "a cat."
    assert instruct.FORM.cut("Once there was a cat.\n\nAssistant:", Letters(), 18) == "a cat.\n\nAssistant:"


def test_an_instruction_loses_the_end_of_its_context() -> None:
    prompt = instruct.format_instruction("Who sings?", "A bird sings.\nA dog does not.\nNor does a cat.")
    shorter = instruct.format_instruction("Who sings?", "A bird sings.")
    assert instruct.FORM.cut(prompt, Letters(), len(shorter) + 3) == shorter
    bare = instruct.format_instruction("Tell me why the cat sleeps")
    assert instruct.FORM.cut(bare, Letters(), len(bare) - 7) == instruct.format_instruction("Tell me why the cat")


def test_encoding_cuts_the_prompt_and_never_the_response() -> None:
    sample = form("end").encode(Letters(), "<abc\ndef>", "yes", 10)
    assert "".join(map(chr, sample.prompt_ids)) == "<def>"
    assert sample.response_ids == [*map(ord, " yes"), 0]
    with pytest.raises(UserError, match="a response of 5 tokens leaves no room for its prompt in max_length 5"):
        form("end").encode(Letters(), "<abc>", "yes", 5)


# ---------------------------------------------------------------- whatever the text

BODY = st.text(alphabet="ab \n", max_size=60)


@settings(deadline=None)
@given(body=BODY, keep=st.sampled_from(["start", "end"]), most=st.integers(4, 70))
def test_a_cut_fits_and_keeps_one_end_of_the_body(body: str, keep: Keep, most: int) -> None:
    cut = form(keep, "<<", ">>").cut(f"<<{body}>>", Letters(), most)
    assert len(cut) <= most and cut.startswith("<<") and cut.endswith(">>")
    kept = cut[2:-2]
    if len(body) + 4 <= most:
        assert kept == body
        return
    assert body.startswith(kept) if keep == "start" else body.endswith(kept)
    # No more lines would have fitted.
    breaks = [place for place, letter in enumerate(body) if letter == "\n"]
    longer = [body[:place].rstrip() if keep == "start" else body[place:].lstrip() for place in breaks]
    assert not any(len(kept) < len(other) <= most - 4 for other in longer)


@settings(deadline=None, max_examples=50)
@given(body=st.text(alphabet="cat sleeps\n.é", max_size=80), keep=st.sampled_from(["start", "end"]))
def test_a_cut_fits_with_tokens_of_many_letters(tokenizer: Any, body: str, keep: Keep) -> None:
    prompt = f"<{body}>"
    needed = len(token_ids(tokenizer, "<>")) + 1  # joined to a word a bracket may become other tokens
    for most in range(needed, len(token_ids(tokenizer, prompt)) + 1, 5):
        cut = form(keep).cut(prompt, tokenizer, most)
        assert len(token_ids(tokenizer, cut)) <= most
        assert cut[0] == "<" and cut[-1] == ">" and cut[1:-1] in body


@settings(deadline=None)
@given(text=st.lists(st.sampled_from([instruct.TURN, "\n\n", "\n\nHuman:", "\n\nUser:", " cat", "\n"]), max_size=9))
def test_the_parts_of_any_dialogue_are_the_dialogue(text: list[str]) -> None:
    prompt = instruct.clean_prompt("".join(text))
    parts = instruct.split_prompt(prompt)
    assert parts.head + parts.body + parts.closing == prompt
    assert parts.closing.endswith((instruct.TURN, instruct.RESPONSE))


TURNS = st.lists(st.text(alphabet="cat sat\n.é", min_size=1, max_size=30), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(turns=TURNS, context=st.text(alphabet="a cat\n", max_size=60), less=st.integers(0, 60))
def test_the_encoding_cuts_as_the_form_does(tokenizer: Any, turns: list[str], context: str, less: int) -> None:
    """It counts most tokens by estimate; prompt and ids are those of the plain way, for either end."""
    speakers = itertools.cycle(["\n\nHuman: ", "\n\nAssistant: "])
    dialogue = "".join(map(str.__add__, speakers, turns)) + "\n\nAssistant:"
    for prompt in (dialogue, instruct.format_instruction(turns[0], context)):
        room = max(len(token_ids(tokenizer, prompt)) - less, 1)
        (quick,) = fit([prompt], [room], instruct.FORM, BatchTokenizer(tokenizer))
        if isinstance(quick, UserError):
            with pytest.raises(UserError, match="alone"):
                instruct.FORM.cut(prompt, tokenizer, room)
        else:
            assert quick.text == instruct.FORM.cut(prompt, tokenizer, room)
            assert list(quick.ids) == token_ids(tokenizer, quick.text)
