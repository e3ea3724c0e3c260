"""Chats as text: TRL's lists of `{"role": ..., "content": ...}` read as a prompt and a response.

- One user message, with or without a system message before it: their contents, joined by a blank line.
- Several turns: `User: ...`, `Assistant: ...`, `User: ...`, joined by blank lines; a system message stands first, as it
  is.
- The response is what the assistant says after the prompt; several messages are joined by blank lines.

A content may also be a list of `{"type": "text", "text": ...}`, whose texts are put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.reading.columns import MEND, kind_of, need_text, some_text, sound_text
from tasks.reading.rows import BadRow, RawRow

ROLES = ("system", "user", "assistant")
_SPEAKERS = {"user": "User: ", "assistant": "Assistant: ", "system": ""}


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: str  # one of ROLES
    text: str


Chat = tuple[Message, ...]


def is_chat(value: Any) -> bool:
    """Whether a value is to be read as a chat rather than as text."""
    return isinstance(value, list)


def need_chat(row: RawRow, name: str) -> Chat:
    """The messages of a column that holds a list.

    Raises: BadRow when it is empty, a message is malformed, or a system message is not the first.
    """
    messages = tuple(_message(row, f"{name}.{number}", item) for number, item in enumerate(row.values[name]))
    if not messages:
        raise BadRow(row.where, f"'{name}' is a chat without messages", MEND)
    for number, message in enumerate(messages):
        if message.role == "system" and number > 0:
            raise _not_a_chat(row, name, "a system message must be the first", f"message {number + 1}")
    return messages


def _message(row: RawRow, name: str, item: Any) -> Message:
    column = name.partition(".")[0]
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
        found = f"with {', '.join(map(str, item)) or 'nothing'}" if isinstance(item, dict) else kind_of(item)
        raise _not_a_chat(row, column, "each message needs 'role' and 'content'", f"'{name}' is {found}")
    if item["role"] not in ROLES:
        detail = f"'{name}.role' is {str(item['role'])[:40]!r}"
        raise _not_a_chat(row, column, f"a role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}", detail)
    text = _content(row, f"{name}.content", item["content"])
    if not text.strip() and item["role"] != "assistant":
        raise BadRow(row.where, f"'{column}' has a message without text", MEND, f"'{name}.content'")
    return Message(item["role"], text)


def _content(row: RawRow, name: str, content: Any) -> str:
    if not isinstance(content, list):
        return sound_text(row, name, content)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise _not_a_chat(row, name.partition(".")[0], "only parts of type 'text' can be read", f"'{name}'")
    return "".join(sound_text(row, f"{name}.{number}.text", part.get("text")) for number, part in enumerate(content))


def _not_a_chat(row: RawRow, name: str, why: str, detail: str) -> BadRow:
    return BadRow(row.where, f"'{name}' is not a chat that can be read: {why}", MEND, detail)


def written(messages: Sequence[Message]) -> str:
    """The messages before a response as one text (see the top of this file)."""
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1 and turns[0].role == "user":
        return "\n\n".join(message.text for message in messages)
    return "\n\n".join(_SPEAKERS[message.role] + message.text for message in messages)


def read_prompt(row: RawRow, name: str = "prompt") -> str:
    """The prompt of a column that holds text or a chat whose last message is the user's. Raises: BadRow."""
    if not is_chat(row.values.get(name)):
        return need_text(row, name)
    messages = need_chat(row, name)
    if messages[-1].role != "user":
        raise _not_a_chat(row, name, "a prompt must end with the user's message", f"it ends with {messages[-1].role}")
    return written(messages)


def read_response(row: RawRow, name: str, prompt: str) -> str:
    """The response, maybe blank, in a column that holds text, the assistant's messages, or the chat from its beginning.

    Args:
        prompt: what `read_prompt` gave; a whole chat must begin with it.

    Raises: BadRow.
    """
    if not is_chat(row.values.get(name)):
        return some_text(row, name)
    lead, reply = split_reply(need_chat(row, name))
    if not reply:
        raise _not_a_chat(row, name, "the assistant must say something at its end", "it ends with the user's message")
    if lead and written(lead).strip() != prompt.strip():
        raise _not_a_chat(row, name, "what stands before the response must be the prompt", f"{len(lead)} messages")
    return reply_text(reply)


def split_reply(messages: Chat) -> tuple[Chat, Chat]:
    """A chat up to the last message that is not the assistant's, and what the assistant says after it."""
    end = len(messages)
    while end > 0 and messages[end - 1].role == "assistant":
        end -= 1
    return messages[:end], messages[end:]


def reply_text(reply: Sequence[Message]) -> str:
    """The assistant's messages as one response."""
    return "\n\n".join(message.text for message in reply)


def read_shared(row: RawRow, first: str = "chosen", second: str = "rejected") -> tuple[str, str, str]:
    """Prompt and two responses of two chats that begin alike. Raises: BadRow when they share no prompt."""
    chats = [need_chat(row, name) for name in (first, second)]
    (lead, one), (other, two) = map(split_reply, chats)
    if not one or not two or not lead or lead != other or lead[-1].role != "user":
        reason = f"'{first}' and '{second}' do not begin with the same chat, up to the user's last message"
        raise BadRow(row.where, reason, f"add a prompt column, or {MEND}")
    return written(lead), reply_text(one), reply_text(two)
