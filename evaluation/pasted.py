"""Posts as people give them: pasted into the terminal, piped in, or in a file.

A post ends with a line that holds a single dot, or where the input ends. It may begin with `SUBREDDIT:` and `TITLE:`
lines, as the data have them; at a terminal what it lacks of them is asked for. A text that is no post is written as its
task writes a prompt. Left out: several files; editing.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tasks.form import TextForm
from tasks.text import TLDR, clean_prompt, format_post, split_prompt, subreddit_of, title_of
from trlx.utils.errors import UserError

END = "."
ARTICLE = "Article:"  # how CNN/DM's prompts begin, which have neither subreddit nor title
INVITATION = "Paste a post and end it with a line with a single dot, or Ctrl-D. Nothing before it: leave."
ReadLine = Callable[[str], str]  # like input(): a prompt to show → a line, or EOFError
Ask = Callable[[str], str]  # what is missing → an answer, which may be empty
AsPrompt = Callable[[str, Ask], str]  # a person's text → a prompt


def at_terminal(file: str | None) -> bool:
    """Whether posts come from a person at a terminal, who can go on after a mistake."""
    return file is None and sys.stdin is not None and sys.stdin.isatty()


def prompts_from(file: str | None, form: TextForm = TLDR) -> Iterator[str]:
    """Prompts of the posts in a file, or of standard input where it is None, asking for them at a terminal.

    Args:
        form: of the task's texts.

    Raises: UserError for a file that cannot be read, and where there is no post at all.
    """
    as_prompt = written_by(form)
    if at_terminal(file):
        return asked(_line_editor(), print, as_prompt)
    return prompts_in(_standard_input(), "standard input", as_prompt) if file is None else prompts_of(file, as_prompt)


def prompts_of(file: str, as_prompt: AsPrompt) -> Iterator[str]:
    """Prompts of the texts in a file. Raises: UserError for one that cannot be read or holds none."""
    return prompts_in(_open(file), file, as_prompt)


def written_by(form: TextForm) -> AsPrompt:
    """How a person's text becomes a prompt: a post gets its headings, any other text what its task writes around it."""
    return prompt_of if form is TLDR else lambda text, ask: form.clean_prompt(text.strip())


def nothing(what: str) -> str:
    """The answer where nobody can be asked."""
    return ""


def asked(read_line: ReadLine, say: Callable[[str], object], as_prompt: AsPrompt | None = None) -> Iterator[str]:
    """Ask for a post again and again, until there is nothing before its end; a post that will not do is told so."""
    as_prompt = as_prompt or prompt_of
    say(INVITATION)
    while text := _block(read_line).strip():
        try:
            prompt = as_prompt(text, lambda what: _answer(read_line, f"{what} (Enter: none): "))
        except UserError as error:
            say(f"error: {error}")
        else:
            yield prompt
        say("\n" + INVITATION)


def prompt_of(text: str, missing: Ask = nothing) -> str:
    """The prompt of a pasted text, as the data's prompts are written.

    Args:
        missing: asked for "Subreddit" and "Title" where the text has no such line.

    Raises: UserError when nothing but those lines is there.
    """
    text = text.strip()
    if text.startswith(ARTICLE):
        return clean_prompt(text)
    body = split_prompt(text)[1].strip()
    if not body:
        raise UserError("the post has no text after its SUBREDDIT: and TITLE: lines")
    subreddit = subreddit_of(text) or missing("Subreddit")
    return format_post(subreddit, title_of(text) or missing("Title"), body)


def blocks(lines: Iterator[str]) -> Iterator[str]:
    """Texts between lines with a single dot; empty ones are passed over."""
    kept: list[str] = []
    for line in lines:
        if line.strip() != END:
            kept.append(line)
            continue
        yield "\n".join(kept)
        kept = []
    yield "\n".join(kept)


def prompts_in(stream: TextIO, name: str, as_prompt: AsPrompt) -> Iterator[str]:
    """Prompts of the texts in a stream, which is read to its end at once. Raises: UserError where there is none."""
    with stream:
        texts = [text for text in blocks(line.rstrip("\r\n") for line in stream) if text.strip()]
    if not texts:
        raise UserError(f"{name} holds no post: give a text, or run the command at a terminal to paste one")
    return iter([as_prompt(text, nothing) for text in texts])


def _open(file: str) -> TextIO:
    try:
        return Path(file).open(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"--file {file}: cannot be read ({error.strerror}): name a text file with a post") from error


def _standard_input() -> TextIO:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    return sys.stdin or io.StringIO()


def _line_editor() -> ReadLine:
    """`input` with readline where there is one: without it a terminal cuts lines at 4,096 bytes."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    return input


def _block(read_line: ReadLine) -> str:
    """Lines up to the one with a dot, or to Ctrl-D."""
    lines: list[str] = []
    while True:
        try:
            read = read_line("")
        except EOFError:
            return "\n".join(lines)
        for line in read.split("\n"):  # a terminal may paste several at once
            if line.strip() == END:
                return "\n".join(lines)
            lines.append(line)


def _answer(read_line: ReadLine, question: str) -> str:
    try:
        return read_line(question).strip()
    except EOFError:
        return ""
