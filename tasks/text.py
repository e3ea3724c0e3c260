"""The text of one TL;DR sample: how a prompt and a summary are written.

A prompt ends with `TL;DR:` and nothing after it; a summary carries no leading space, no `TL;DR:` and no
end-of-text mark; the response is `" " + summary` followed by the EOS id.
"""

from __future__ import annotations

import re

from tasks.form import END_OF_TEXT, Parts, TextForm

PROMPT_END = "TL;DR:"

# The part of a prompt that truncation must never touch; every line of it may be absent (plain dialogues
# have none). Some data sets have blank lines between them.
_HEADER = re.compile(r"\A(?:Article:\n+|(?:SUBREDDIT:[^\n]*\n+)?(?:TITLE:[^\n]*\n+)?(?:POST:[ ]?)?)")
_LEADING_MARKS = re.compile(r"\A(?:\s*TL;DR:)+", re.IGNORECASE)


def format_post(subreddit: str, title: str, post: str) -> str:
    """The TL;DR prompt of a Reddit post; a leading `r/` of the subreddit and line breaks in a title go.

    An empty subreddit or title leaves its line out.
    """
    name = subreddit.strip().removeprefix("/").removeprefix("r/")
    title = " ".join(title.split())
    head = [f"SUBREDDIT: r/{name}"] if name else []
    head += [f"TITLE: {title}"] if title else []
    return "\n".join([*head, f"POST: {post.strip()}", PROMPT_END])


def format_article(article: str) -> str:
    """The prompt of a news article (CNN/DM), worded as in OpenAI's summarize-from-feedback."""
    return f"Article:\n\n{article.strip()}\n\n{PROMPT_END}"


def clean_prompt(text: str) -> str:
    """The prompt right-stripped and ending `TL;DR:`, added on its own line where the data lack it.

    A stray end-of-text mark goes: a tokenizer would make an EOS of it.
    """
    text = text.replace(END_OF_TEXT, "").rstrip()
    if text.endswith(PROMPT_END):
        return text
    return f"{text}\n{PROMPT_END}" if text else PROMPT_END


def clean_summary(text: str) -> str:
    """The summary without leading `TL;DR:`, outer white space and anything from an end-of-text mark on."""
    text = text.split(END_OF_TEXT, 1)[0]
    return _LEADING_MARKS.sub("", text).strip()


def split_prompt(prompt: str) -> Parts:
    """Header (subreddit, title, `POST: `), body and closing; joined they give `clean_prompt(prompt)`."""
    prompt = clean_prompt(prompt)
    match = _HEADER.match(prompt)
    start = match.end() if match else 0
    end = len(prompt) - len(PROMPT_END)
    end = len(prompt[:end].rstrip("\n"))
    start = min(start, end)
    return Parts(prompt[:start], prompt[start:end], prompt[end:])


def subreddit_of(prompt: str) -> str:
    """The post's subreddit without `r/`, or an empty text."""
    return _header_field("SUBREDDIT", prompt).removeprefix("r/")


def title_of(prompt: str) -> str:
    """The post's title, or an empty text where it has none."""
    return _header_field("TITLE", prompt)


def _header_field(name: str, prompt: str) -> str:
    found = re.search(rf"^{name}:([^\n]*)", split_prompt(prompt)[0], re.MULTILINE)
    return found.group(1).strip() if found else ""


TLDR = TextForm(clean_prompt, clean_summary, split_prompt, stays=f"subreddit, title and '{PROMPT_END}'", min_words=5)
