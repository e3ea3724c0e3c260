"""Posts without a response, where one is needed."""

import pytest

from tasks.encoding import at_least_one, require_responses, with_response
from tasks.reading.rows import BadRow, Skipped, stop
from tasks.records import Post
from trlx.utils.errors import UserError

POSTS = [Post("a", "p", "r"), Post("b", "p", "", where="x.jsonl, line 2")]


def test_they_are_told_by_line() -> None:
    skipped = Skipped()
    assert list(with_response(POSTS, skipped)) == POSTS[:1]
    assert str(skipped) == "1 rows skipped: 1 there is no response to the prompt (first: x.jsonl, line 2)"
    with pytest.raises(BadRow, match=r"^x\.jsonl, line 2: there is no response to the prompt: add one, or pass --bad"):
        list(with_response(POSTS, stop))


def test_they_are_refused_where_something_is_compared_with_them() -> None:
    assert require_responses(POSTS[:1]) == POSTS[:1]
    with pytest.raises(BadRow, match=r"^x\.jsonl, line 2: .*is compared: add one, or take other data"):
        require_responses(POSTS)


def test_none_at_all_is_told_with_its_reason() -> None:
    assert list(at_least_one(POSTS, lambda: "x")) == POSTS
    with pytest.raises(UserError, match=r"^no text is left: x\.jsonl: too short: give other data"):
        list(at_least_one([], lambda: "x.jsonl: too short"))
    with pytest.raises(UserError, match="no text is left to judge"):
        require_responses([])
