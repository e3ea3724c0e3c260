"""OpenAssistant's conversations (OASST1, OASST2): trees of messages, in which replies to one message are ranked.

They come as one message a row (`message_id`, `parent_id`, `text`, `role`, ...) or as one tree a line, whose `prompt`
has its `replies` inside it, and so on. A message that was deleted, or that its reviewers refused, is left out with all
below it; so is one in another language than the one that is asked for. Of single messages those of a whole split are
held in memory, since a reply may stand before what it replies to.

Left out: trees' states, labels and emojis, and who wrote a message.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks.instruct import TURN
from tasks.instructions.example import Answer, Choice, Example
from tasks.reading.columns import MEND, need_text, text_or_none
from tasks.reading.rows import BadRow, RawRow
from tasks.reading.texts import whole

PROMPTER, ASSISTANT = "prompter", "assistant"
_SPEAKERS = {PROMPTER: "Human:", ASSISTANT: TURN}


@dataclass(eq=False)
class Message:
    """One message, with the replies to it."""

    id: str
    parent: str | None
    role: str
    text: str
    lang: str
    rank: int | None  # among the replies to the same message, 0 is the best; None where they were not ranked
    gone: bool  # deleted, or refused by its reviewers
    where: str
    replies: list[Message] = field(default_factory=list)


def of_messages(rows: Iterable[RawRow], choice: Choice) -> Iterator[Example]:
    """The instructions of rows of one message each."""
    messages: dict[str, Message] = {}
    for row in rows:
        try:
            message = _message(row)
            if message.id in messages:
                raise BadRow(row.where, "a message for the second time", MEND, f"message_id {message.id!r}")
        except BadRow as bad:
            choice.on_bad(bad)
        else:
            messages[message.id] = message
    yield from itertools.islice(_of_roots(_linked(messages, choice), choice), choice.limit)


def of_trees(rows: Iterable[RawRow], choice: Choice) -> Iterator[Example]:
    """The instructions of rows of one tree each."""
    roots = (root for row in rows if (root := _tree(row, choice)))
    yield from itertools.islice(_of_roots(roots, choice), choice.limit)


def _message(row: RawRow) -> Message:
    role = need_text(row, "role")
    if role not in _SPEAKERS:
        raise BadRow(row.where, f"a role must be {PROMPTER} or {ASSISTANT}", MEND, f"'role' is {role[:40]!r}")
    rank = whole(row.values.get("rank"))
    if rank is not None and type(rank) is not int:
        raise BadRow(row.where, "'rank' is not a whole number", MEND, repr(rank)[:40])
    gone = row.values.get("deleted") is True or row.values.get("review_result") is False
    text = (text_or_none(row, "text") or "") if gone else need_text(row, "text")
    return Message(
        need_text(row, "message_id"),
        text_or_none(row, "parent_id") or None,
        role,
        text.strip(),
        (text_or_none(row, "lang") or "").lower(),
        rank,
        gone,
        row.where,
    )


def _linked(messages: dict[str, Message], choice: Choice) -> Iterator[Message]:
    """The first messages, once every other one is among its parent's replies."""
    for message in messages.values():
        if message.parent in messages:
            messages[message.parent].replies.append(message)
        elif message.parent is not None:
            reason = "a reply to a message that is not there"
            choice.on_bad(BadRow(message.where, reason, f"add it, or {MEND}", f"parent_id {message.parent!r}"))
    yield from (message for message in messages.values() if message.parent is None)


def _tree(row: RawRow, choice: Choice) -> Message | None:
    """The first message of a tree. One that cannot be used is left out with all below it."""
    root = Message("", None, "", "", "", None, False, row.where)
    waiting: list[tuple[Message, Any]] = [(root, row.values["prompt"])]
    while waiting:
        parent, values = waiting.pop()
        try:
            message, replies = _with_replies(values, row.where)
        except BadRow as bad:
            choice.on_bad(bad)
            continue
        parent.replies.append(message)
        waiting += [(message, reply) for reply in reversed(replies)]
    return root.replies[0] if root.replies else None


def _with_replies(values: Any, where: str) -> tuple[Message, list[Any]]:
    """A message of a tree, and the replies to it as they are. Raises: BadRow."""
    replies = values.get("replies") or [] if isinstance(values, dict) else None
    if not isinstance(replies, list):
        raise BadRow(where, "a message must be an object, and its 'replies' a list", MEND)
    return _message(RawRow(values, f"{where}, message {values.get('message_id')}")), replies


def _of_roots(roots: Iterable[Message], choice: Choice) -> Iterator[Example]:
    for root in roots:
        if root.role != PROMPTER:
            choice.on_bad(BadRow(root.where, f"a conversation must begin with the {PROMPTER}", MEND))
        elif _is_kept(root, choice):
            yield from _of_root(root, choice)


def _of_root(root: Message, choice: Choice) -> Iterator[Example]:
    """An instruction for every message of the prompter; what was said before it is part of it."""
    waiting: list[tuple[Message, ...]] = [(root,)]
    while waiting:
        turns = waiting.pop()
        replies = _replies(turns[-1], choice)
        if turns[-1].role == PROMPTER:
            answers = tuple(Answer(reply.text, reply.rank) for reply in replies)
            yield Example(_written(turns), "", answers, turns[-1].where)
        if choice.turns == "all":
            waiting += [(*turns, reply) for reply in reversed(replies)]


def _replies(message: Message, choice: Choice) -> list[Message]:
    """The replies that are kept, the best first and those without a rank last."""
    for reply in message.replies:
        if reply.role == message.role:
            choice.on_bad(BadRow(reply.where, "a reply by the role that it replies to", MEND, reply.role))
    kept = [reply for reply in message.replies if reply.role != message.role and _is_kept(reply, choice)]
    return sorted(kept, key=lambda reply: (reply.rank is None, reply.rank or 0))


def _is_kept(message: Message, choice: Choice) -> bool:
    if message.gone:
        choice.dropped["deleted or refused"] += 1
        return False
    if choice.lang and choice.lang.lower() not in (message.lang, message.lang.partition("-")[0]):
        choice.dropped["in another language"] += 1
        return False
    return True


def _written(turns: tuple[Message, ...]) -> str:
    """A single message as it is; several as a dialogue that the assistant is to go on with."""
    if len(turns) == 1:
        return turns[0].text
    return "".join(f"\n\n{_SPEAKERS[turn.role]} {turn.text}" for turn in turns) + f"\n\n{TURN}"
