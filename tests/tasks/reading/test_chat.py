from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.chat import ROLES, need_chat, read_prompt, read_response, read_shared
from tasks.reading.rows import BadRow, RawRow


def say(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


QUESTION = [say("user", "Name a bird.")]
TALK = [*QUESTION, say("assistant", "The wren."), say("user", "Where does it nest?")]
TALK_TEXT = "User: Name a bird.\n\nAssistant: The wren.\n\nUser: Where does it nest?"
BRIEFLY = say("system", "Be brief.")


def row(**values: Any) -> RawRow:
    return RawRow(values, "x.jsonl, line 3")


@pytest.mark.parametrize(
    "prompt, text",
    [
        (" as it is ", " as it is "),
        (QUESTION, "Name a bird."),
        ([BRIEFLY, *QUESTION], "Be brief.\n\nName a bird."),
        (TALK, TALK_TEXT),
        ([BRIEFLY, *TALK], "Be brief.\n\n" + TALK_TEXT),
        ([say("user", [{"type": "text", "text": "Name "}, {"type": "text", "text": "a bird."}])], "Name a bird."),
        ([say("user", "One."), say("user", "Two.")], "User: One.\n\nUser: Two."),
    ],
)
def test_prompts(prompt: Any, text: str) -> None:
    assert read_prompt(row(prompt=prompt)) == text


@pytest.mark.parametrize(
    "prompt, chosen, response",
    [
        (QUESTION, " The owl.", " The owl."),
        (QUESTION, [say("assistant", "The owl.")], "The owl."),
        (QUESTION, [say("assistant", "The owl."), say("assistant", "It is grey.")], "The owl.\n\nIt is grey."),
        (QUESTION, [*QUESTION, say("assistant", "The owl.")], "The owl."),
        ("Name a bird.", [*QUESTION, say("assistant", "The owl.")], "The owl."),
        (TALK, [*TALK, say("assistant", "In hedges.")], "In hedges."),
        (TALK, [say("assistant", "In hedges.")], "In hedges."),
        (QUESTION, [say("assistant", "")], ""),
    ],
)
def test_responses(prompt: Any, chosen: Any, response: str) -> None:
    given_row = row(prompt=prompt, chosen=chosen)
    assert read_response(given_row, "chosen", read_prompt(given_row)) == response


@pytest.mark.parametrize(
    "chosen, reason",
    [
        (QUESTION, "the assistant must say something at its end"),
        (
            [say("user", "Name a fish."), say("assistant", "The eel.")],
            "what stands before the response must be the prompt",
        ),
        ([say("assistant", "The wren."), *TALK], "the assistant must say something"),
        ([], "a chat without messages"),
        ([say("assistant", None)], "'chosen.0.content' is empty"),
    ],
)
def test_responses_that_do_not_fit(chosen: Any, reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read_response(row(chosen=chosen), "chosen", "Name a bird.")


@pytest.mark.parametrize(
    "prompt, message",
    [
        ([], "'prompt' is a chat without messages"),
        (["Name a bird."], "each message needs 'role' and 'content' ('prompt.0' is text)"),
        ([{"role": "user"}], "each message needs 'role' and 'content' ('prompt.0' is with role)"),
        ([{}], "('prompt.0' is with nothing)"),
        ([say("tool", "x")], "a role must be system, user or assistant ('prompt.0.role' is 'tool')"),
        ([say(["user"], "x")], "a role must be"),  # type: ignore[arg-type]
        ([say("user", 3)], "'prompt.0.content' is not text (a number)"),
        ([say("user", " ")], "'prompt' has a message without text ('prompt.0.content')"),
        ([say("user", [])], "'prompt' has a message without text"),
        ([say("user", [{"type": "image"}])], "only parts of type 'text' can be read ('prompt.0.content')"),
        ([say("user", [{"type": "text"}])], "'prompt.0.content.0.text' is empty (null)"),
        ([say("user", ["x"])], "only parts of type 'text'"),
        ([*QUESTION, BRIEFLY], "a system message must be the first (message 2)"),
        ([*QUESTION, say("assistant", "x")], "a prompt must end with the user's message (it ends with assistant)"),
        ([BRIEFLY], "it ends with system"),
    ],
)
def test_malformed_chats(prompt: Any, message: str) -> None:
    with pytest.raises(BadRow) as caught:
        read_prompt(row(prompt=prompt))
    assert str(caught.value).startswith("x.jsonl, line 3: 'prompt") and message in str(caught.value)


def test_two_chats_share_what_stands_before_the_last_replies() -> None:
    pair = {"chosen": [*TALK, say("assistant", "In hedges.")], "rejected": [*TALK, say("assistant", "Somewhere.")]}
    assert read_shared(row(**pair)) == (TALK_TEXT, "In hedges.", "Somewhere.")
    same = [*QUESTION, say("assistant", "The owl."), say("assistant", "It is grey.")]
    assert read_shared(row(chosen=same, rejected=same)) == ("Name a bird.", *["The owl.\n\nIt is grey."] * 2)


@pytest.mark.parametrize(
    "rejected",
    [[say("user", "Name a fish."), say("assistant", "The eel.")], [say("assistant", "The eel.")], QUESTION],
)
def test_two_chats_with_different_prompts(rejected: Any) -> None:
    with pytest.raises(BadRow, match="do not begin with the same chat"):
        read_shared(row(chosen=[*QUESTION, say("assistant", "The owl.")], rejected=rejected))


CONTENT = st.text(max_size=4) | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=3)}))
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from([*ROLES, "tool"]), "content": CONTENT | st.none()})


@given(st.lists(MESSAGE | st.none() | st.text(max_size=2), max_size=5))
def test_any_list_is_read_or_refused(messages: list[Any]) -> None:
    given_row = row(prompt=messages)
    try:
        chat = need_chat(given_row, "prompt")
        text = read_prompt(given_row)
    except BadRow:
        return
    assert all(message.text in text for message in chat)
    assert [message.role for message in chat] == [message["role"] for message in messages]
