"""The text of one sample: how a prompt and a summary are written, cut and turned into token ids.

A prompt ends with `TL;DR:` and nothing after it; a summary carries no leading space, no `TL;DR:` and no
end-of-text mark; the response is `" " + summary` followed by the EOS id. Prompt and response are always
tokenised apart and their ids joined, so that the ids of a prompt are the same in training, in rollouts and
in evaluation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from trlx.utils.errors import UserError

PROMPT_END = "TL;DR:"
END_OF_TEXT = "<|endoftext|>"

# The part of a prompt that truncation must never touch; every line of it may be absent (plain dialogues
# have none). Some data sets have blank lines between them.
_HEADER = re.compile(r"\A(?:Article:\n+|(?:SUBREDDIT:[^\n]*\n+)?(?:TITLE:[^\n]*\n+)?(?:POST:[ ]?)?)")
_LEADING_MARKS = re.compile(r"\A(?:\s*TL;DR:)+", re.IGNORECASE)


@dataclass(frozen=True)
class EncodedSample:
    """Token ids of one sample; the model reads `prompt_ids + response_ids`."""

    prompt_ids: list[int]
    response_ids: list[int]  # ends with EOS


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


def response_text(summary: str) -> str:
    """What follows the prompt as text; the EOS is an id and never part of the text."""
    return " " + summary


def split_prompt(prompt: str) -> tuple[str, str, str]:
    """Header (subreddit, title, `POST: `), body and closing; joined they give `clean_prompt(prompt)`."""
    prompt = clean_prompt(prompt)
    match = _HEADER.match(prompt)
    start = match.end() if match else 0
    end = len(prompt) - len(PROMPT_END)
    end = len(prompt[:end].rstrip("\n"))
    start = min(start, end)
    return prompt[:start], prompt[start:end], prompt[end:]


def subreddit_of(prompt: str) -> str:
    """The post's subreddit without `r/`, or an empty text."""
    return _header_field("SUBREDDIT", prompt).removeprefix("r/")


def title_of(prompt: str) -> str:
    """The post's title, or an empty text where it has none."""
    return _header_field("TITLE", prompt)


def _header_field(name: str, prompt: str) -> str:
    found = re.search(rf"^{name}:([^\n]*)", split_prompt(prompt)[0], re.MULTILINE)
    return found.group(1).strip() if found else ""


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text with no special tokens added."""
    # Not verbose: a text longer than the model takes is about to be cut, which needs no warning.
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def truncate_prompt(prompt: str, tokenizer: Any, max_tokens: int) -> str:
    """Cut the post until the prompt has at most `max_tokens` tokens.

    The post loses its last lines; if not even its first line fits, that line loses its last tokens. The
    subreddit, the title and the closing `TL;DR:` stay.

    Raises: UserError when the parts that must stay do not fit by themselves.
    """
    prompt = clean_prompt(prompt)
    if len(token_ids(tokenizer, prompt)) <= max_tokens:
        return prompt
    header, body, end = split_prompt(prompt)

    def fits(kept: str) -> bool:
        return len(token_ids(tokenizer, header + kept + end)) <= max_tokens

    lines = body.split("\n")
    cuts = [len("\n".join(lines[:count])) for count in range(1, len(lines))]
    position = _last_fit(cuts, lambda cut: fits(body[:cut].rstrip()))
    if position is None:
        position = _last_fit(_token_ends(tokenizer, lines[0]), lambda cut: fits(body[:cut].rstrip()))
    if position is None and not fits(""):
        raise UserError(
            f"a prompt needs more than {max_tokens} tokens for subreddit, title and '{PROMPT_END}' alone: "
            f"raise the length limit or drop the post (it begins {prompt[:60]!r})"
        )
    return header + body[: position or 0].rstrip() + end


def _token_ends(tokenizer: Any, line: str) -> list[int]:
    """Character positions at which a token of the line ends, ascending; all of them where a tokenizer cannot tell."""
    try:
        found = tokenizer(line, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    except NotImplementedError:  # one written in Python
        return list(range(1, len(line) + 1))
    return sorted({end for _, end in found["offset_mapping"]})


def _last_fit(cuts: list[int], fits: Any) -> int | None:
    """The largest cut that fits, by bisection; then stepping back, as token counts are not quite monotone."""
    low, high = 0, len(cuts)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if fits(cuts[middle]) else (low, middle)
    while low > 0 and not fits(cuts[low - 1]):
        low -= 1
    # A cut that leaves no text is no better than none: the caller then cuts by tokens.
    return cuts[low - 1] if low > 0 and cuts[low - 1] > 0 else None


def encode_sample(tokenizer: Any, prompt: str, summary: str, max_length: int) -> EncodedSample:
    """Token ids of one training sample: `tok(prompt)`, then `tok(" " + summary) + [eos]`.

    The prompt is truncated so that both together have at most `max_length` tokens; the summary is never
    cut, since a cut summary would teach the model to end in the middle.

    Raises: UserError when they cannot fit, or when the tokenizer has no EOS token.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no EOS token: set eos_token in its tokenizer_config.json")
    response_ids = [*token_ids(tokenizer, response_text(summary)), int(tokenizer.eos_token_id)]
    room = max_length - len(response_ids)
    if room <= 0:
        raise UserError(
            f"a summary of {len(response_ids)} tokens leaves no room for its prompt in max_length "
            f"{max_length}: raise max_length or drop it (it begins {summary[:60]!r})"
        )
    prompt_ids = token_ids(tokenizer, truncate_prompt(prompt, tokenizer, room))
    return EncodedSample(prompt_ids=prompt_ids, response_ids=response_ids)
