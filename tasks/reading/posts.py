"""The formats of posts: a prompt with its reference summary, read and written.

What is written is a record's clean text in the format's own dress: CarperAI's prompts end in a space, TRL's completions
begin with one, OpenAI's posts have title and body apart. Extra columns go along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasks.form import response_text
from tasks.reading.chat import is_chat, read_prompt, read_response
from tasks.reading.columns import MEND, need_text, row_id, text_or_none
from tasks.reading.rows import SKIP, BadRow, RawRow, Row
from tasks.reading.texts import PostText, begin_with, others
from tasks.records import Pair, Post
from tasks.text import format_post, split_prompt

_SUBREDDIT = re.compile(r"^SUBREDDIT:(.*)$", re.MULTILINE)
_TITLE = re.compile(r"^TITLE:(.*)$", re.MULTILINE)


def read_openai_post(row: RawRow) -> PostText:
    """OpenAI's `tldr_3_filtered`: subreddit and title (both may be missing), post, summary."""
    subreddit, title = (text_or_none(row, name) or "" for name in ("subreddit", "title"))
    prompt = format_post(subreddit, title, need_text(row, "post"))
    used = ("subreddit", "title", "post", "summary")
    return PostText(prompt, need_text(row, "summary"), row_id(row), others(row, used))


def read_labelled_prompt(row: RawRow) -> PostText:
    """CarperAI/openai_summarize_tldr: prompt and label; a prompt that the label begins with is taken off it."""
    return _read_prompt_and(row, "label")


def read_completed_prompt(row: RawRow) -> PostText:
    """TRL's prompt and completion, each as text or chat; text is read as by `read_labelled_prompt`."""
    return _read_prompt_and(row, "completion")


def _read_prompt_and(row: RawRow, name: str) -> PostText:
    prompt = read_prompt(row)
    summary = read_response(row, name, prompt)
    if begin_with(prompt, summary) and not is_chat(row.values["prompt"]) and not is_chat(row.values[name]):
        # A summary that is the post again is one nevertheless.
        summary = summary.removeprefix(prompt.rstrip()).strip() or summary
    if not summary.strip():
        raise BadRow(row.where, f"'{name}' is empty", MEND)
    return PostText(prompt, summary, row_id(row), others(row, ("prompt", name)))


def write_openai_post(post: Post) -> Row:
    """A row of `read_openai_post`. Raises: BadRow when the prompt is not made of a title and a post."""
    return with_extra(post, {"id": post.id, **parts_of_prompt(post), "summary": post.summary})


def write_labelled_prompt(post: Post) -> Row:
    """A row of `read_labelled_prompt`, the prompt ending `TL;DR: ` as CarperAI's do."""
    return with_extra(post, {"id": post.id, "prompt": post.prompt + " ", "label": post.summary})


def write_completed_prompt(post: Post) -> Row:
    """A row of `read_completed_prompt` in text; prompt + completion is the text that is trained on."""
    return with_extra(post, {"id": post.id, "prompt": post.prompt, "completion": response_text(post.summary)})


def write_completed_chat(post: Post) -> Row:
    """A row of `read_completed_prompt` as chats: the whole prompt is one message of the user."""
    return with_extra(
        post,
        {"id": post.id, "prompt": chat("user", post.prompt), "completion": chat("assistant", post.summary)},
    )


def chat(role: str, text: str) -> list[dict[str, str]]:
    """A chat of one message."""
    return [{"role": role, "content": text}]


def with_extra(record: Post | Pair, row: Row) -> Row:
    """The row, and after it what a record's `extra` has under other names."""
    return row | {name: value for name, value in record.extra.items() if name not in row}


def parts_of_prompt(record: Post | Pair) -> Mapping[str, str]:
    """Subreddit, title and post of a prompt that `format_post` could have made, white space apart.

    Raises: BadRow for other prompts, which would come back changed.
    """
    header, body, *_ = split_prompt(record.prompt)
    found = [pattern.search(header) for pattern in (_SUBREDDIT, _TITLE)]
    subreddit, title = (match.group(1).strip() if match else "" for match in found)
    # Without its "r/" as OpenAI has it, but for a name that would lose more of its beginning.
    for name in (subreddit.removeprefix("r/"), subreddit):
        if format_post(name, title, body).split() == record.prompt.split():
            return {"subreddit": name, "title": title, "post": body}
    raise BadRow(
        record.where or record.id,
        "the prompt does not consist of SUBREDDIT, TITLE and POST",
        f"choose a format that takes any prompt, {SKIP}",
        f"it begins {record.prompt[:40]!r}",
    )
