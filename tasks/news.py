"""News: an article and the highlights that its editors chose (CNN/DailyMail); pairs are OpenAI's comparisons of such.

    {"article": "...", "highlights": "One sentence .\\nAnother .", "id": "..."}

A prompt is the article between `Article:` and `TL;DR:`, as OpenAI's comparisons of news have it; a long one is cut at
its end. Highlights, a sentence a line, are one paragraph. Left out: titles, which these data do not have.
"""

from __future__ import annotations

import dataclasses
import re

from tasks.form import TextForm
from tasks.reading.columns import need_text
from tasks.reading.formats import Kind
from tasks.reading.rows import RawRow
from tasks.task import Task
from tasks.text import PROMPT_END, clean_prompt, clean_summary, format_article, split_prompt


def clean_highlights(text: str) -> str:
    """The highlights as one paragraph, each full stop right after its word."""
    return re.sub(r" \.(?= |$)", ".", " ".join(clean_summary(text).split()))


def row(raw: RawRow, kind: Kind) -> RawRow:
    """An article as a prompt with its completion; other rows as they are. Raises: BadRow for an empty one."""
    if kind != "posts" or "article" not in raw.values:
        return raw
    values = {name: value for name, value in raw.values.items() if name not in ("article", "highlights")}
    prompt, completion = format_article(need_text(raw, "article")), need_text(raw, "highlights")
    return dataclasses.replace(raw, values=values | {"prompt": prompt, "completion": completion})


FORM = TextForm(clean_prompt, clean_highlights, split_prompt, stays=f"'Article:' and '{PROMPT_END}'", min_words=5)
TASK = Task("news", FORM, row)
