from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.form import response_text, token_ids
from tasks.text import TLDR, clean_prompt, clean_summary, format_article, format_post, split_prompt
from trlx.utils.errors import UserError

PROMPT = "SUBREDDIT: r/pets\nTITLE: My cat\nPOST: My sister lost the cat.\nIt was in the garden.\nTL;DR:"


@pytest.mark.parametrize("subreddit", ["pets", "r/pets", "/r/pets", " r/pets "])
def test_format_post(subreddit: str) -> None:
    assert format_post(subreddit, " My\n cat ", "My sister lost the cat.\nIt was in the garden.  ") == PROMPT


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("POST: a\nTL;DR: ", "POST: a\nTL;DR:"),
        ("POST: a\nTL;DR:", "POST: a\nTL;DR:"),
        ("POST: a", "POST: a\nTL;DR:"),
        ("POST: a  \n\n", "POST: a\nTL;DR:"),
        ("", "TL;DR:"),
    ],
)
def test_clean_prompt(raw: str, clean: str) -> None:
    assert clean_prompt(raw) == clean


@pytest.mark.parametrize(
    "raw, clean",
    [
        ("TL;DR:  the cat is back. ", "the cat is back."),
        (" the cat is back.<|endoftext|>Citizens for", "the cat is back."),
        ("tl;dr: the cat", "the cat"),
        ("the cat, TL;DR: not", "the cat, TL;DR: not"),
        ("<|endoftext|>x", ""),
    ],
)
def test_clean_summary(raw: str, clean: str) -> None:
    assert clean_summary(raw) == clean


@given(st.text(alphabet="aT L;DR:\n<|endoftext|>", max_size=40))
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_summary(clean_summary(text)) == clean_summary(text)
    assert clean_prompt(clean_prompt(text)) == clean_prompt(text)


@given(st.text(alphabet="ab\nTL;DR: POST", max_size=60))
def test_split_prompt_loses_nothing(text: str) -> None:
    assert "".join(split_prompt(text)[:3]) == clean_prompt(text)


def test_split_prompt() -> None:
    assert split_prompt(PROMPT)[:3] == (
        "SUBREDDIT: r/pets\nTITLE: My cat\nPOST: ",
        "My sister lost the cat.\nIt was in the garden.",
        "\nTL;DR:",
    )
    assert split_prompt("TL;DR:")[:3] == ("", "", "TL;DR:")


def test_truncation_drops_last_lines_first(tokenizer: Any) -> None:
    whole = len(token_ids(tokenizer, PROMPT))
    assert TLDR.cut(PROMPT, tokenizer, whole) == PROMPT
    short = TLDR.cut(PROMPT, tokenizer, whole - 1)
    assert short == "SUBREDDIT: r/pets\nTITLE: My cat\nPOST: My sister lost the cat.\nTL;DR:"


def test_truncation_inside_the_first_line_goes_token_by_token(tokenizer: Any) -> None:
    one_line = PROMPT.replace("\nIt", " It")
    fewer = TLDR.cut(one_line, tokenizer, len(token_ids(tokenizer, one_line)) - 1)
    assert fewer.startswith("SUBREDDIT: r/pets\nTITLE: My cat\nPOST: My sister lost the cat. It was in the garden")
    assert fewer.endswith("garden\nTL;DR:")  # the final "." was one token, and it was enough


def test_truncation_refuses_when_the_header_does_not_fit(tokenizer: Any) -> None:
    with pytest.raises(UserError, match="more than 5 tokens for subreddit, title"):
        TLDR.cut(PROMPT, tokenizer, 5)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="the cat\n. é日🐈", max_size=80), st.integers(min_value=20, max_value=80))
def test_truncation_keeps_its_promises(tokenizer: Any, body: str, room: int) -> None:
    prompt = format_post("pets", "My cat", body)
    header, _, end, _ = split_prompt(format_post("pets", "My cat", ""))
    if len(token_ids(tokenizer, header + end)) > room:
        return
    cut = TLDR.cut(prompt, tokenizer, room)
    assert len(token_ids(tokenizer, cut)) <= room
    assert cut.startswith(header) and cut.endswith("TL;DR:")
    assert split_prompt(prompt)[1].startswith(split_prompt(cut)[1])
    assert "\ufffd" not in cut


def test_encode_sample_tokenises_apart_and_ends_with_eos(tokenizer: Any) -> None:
    sample = TLDR.encode(tokenizer, PROMPT, "The cat is back.", 500)
    assert sample.prompt_ids == token_ids(tokenizer, PROMPT)
    assert sample.response_ids == [*token_ids(tokenizer, " The cat is back."), tokenizer.eos_token_id]
    assert response_text("The cat") == " The cat"


def test_encode_sample_cuts_the_prompt_never_the_summary(tokenizer: Any) -> None:
    whole = TLDR.encode(tokenizer, PROMPT, "The cat is back.", 500)
    limit = len(whole.prompt_ids) + len(whole.response_ids) - 3
    cut = TLDR.encode(tokenizer, PROMPT, "The cat is back.", limit)
    assert cut.response_ids == whole.response_ids
    assert len(cut.prompt_ids) + len(cut.response_ids) <= limit
    with pytest.raises(UserError, match="leaves no room"):
        TLDR.encode(tokenizer, PROMPT, "The cat is back.", len(whole.response_ids))


def test_an_empty_subreddit_or_title_has_no_line() -> None:
    assert format_post("", " ", "Body.") == "POST: Body.\nTL;DR:"
    assert format_post("r/pets", "", "Body.") == "SUBREDDIT: r/pets\nPOST: Body.\nTL;DR:"


def test_articles_and_blank_lines_between_the_parts() -> None:
    article = format_article(" News.\n\nMore. ")
    assert split_prompt(article)[:3] == ("Article:\n\n", "News.\n\nMore.", "\n\nTL;DR:")
    spaced = "SUBREDDIT: r/a\n\nTITLE: t\n\nPOST: b\n\nTL;DR:"
    assert split_prompt(spaced)[:3] == ("SUBREDDIT: r/a\n\nTITLE: t\n\nPOST: ", "b", "\n\nTL;DR:")


def test_a_cut_article_keeps_its_ends(tokenizer: Any) -> None:
    article = format_article("The cat in the garden.\n\nMy sister found it again and again.")
    room = len(tokenizer(article)["input_ids"]) - 1
    assert TLDR.cut(article, tokenizer, room) == "Article:\n\nThe cat in the garden.\n\nTL;DR:"


def test_a_stray_end_of_text_in_a_prompt_goes() -> None:
    assert clean_prompt("POST: a<|endoftext|> b <|endoftext|>") == "POST: a b\nTL;DR:"


def test_a_line_is_cut_by_characters_where_a_tokenizer_tells_no_offsets() -> None:
    class Bytes:
        def __call__(self, text: str, return_offsets_mapping: bool = False, **_: Any) -> dict[str, Any]:
            if return_offsets_mapping:
                raise NotImplementedError
            return {"input_ids": list(text.encode())}

    prompt = format_post("", "", "one line of text")
    assert TLDR.cut(prompt, Bytes(), len(prompt) - 3) == format_post("", "", "one line of t")
