"""The pretraining texts that PPO may mix in: which options name them, and how they are read.

Left out: what becomes of them (`trlx.trainer.ptx`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from launch.policy_monitor import MonitoredOptions
from tasks.reading.columns import listed, text_or_none
from tasks.reading.rows import SKIP, BadRow, BadRows, RawRow, Skipped, choose_on_bad
from tasks.reading.sources import open_source
from tasks.task import say_skipped
from trlx.data.configs import TRLConfig
from trlx.data.limits import require_ptx
from trlx.data.method_configs import PPOConfig
from trlx.pipeline.text_blocks import require_blocks
from trlx.trlx import global_batch
from trlx.utils.errors import UserError
from trlx.utils.ranges import AT_LEAST_1, require_ranges


@dataclass
class PretrainingOptions(MonitoredOptions):
    """Options of a policy stage that may mix in the loss of pretraining texts, with weight `method.ptx_coef`.

    Args:
        ptx_data: plain texts, named as `data` is; null for none.
        ptx_split: their split; null for all rows.
        ptx_column: the column that holds a text.
        ptx_limit: the first so many rows; null for all.
    """

    ptx_data: str | None = None
    ptx_split: str | None = "train"
    ptx_column: str = "text"
    ptx_limit: int | None = None


def load_pretraining_texts(options: PretrainingOptions, config: TRLConfig, tokenizer: object) -> list[str] | None:
    """The texts, enough of them for an optimizer step; None where none are named.

    Args:
        config: of the engine, with PPO as its method. tokenizer: the policy's.

    Raises: UserError for texts without weight and weight without texts, for rows that cannot be used (unless they are
        to be skipped), and for too few texts.
    """
    require_ranges(options, {"ptx_limit": AT_LEAST_1})
    coefficient, source = cast(PPOConfig, config.method).ptx_coef, options.ptx_data
    if coefficient and source is None:
        raise UserError(f"--method.ptx_coef {coefficient} needs pretraining texts: name them with --ptx_data")
    if source is None:
        return None
    if not coefficient:
        raise UserError("--ptx_data names texts but --method.ptx_coef is 0: set it above 0, or leave --ptx_data out")
    require_ptx(config, there=True)
    skipped = Skipped()
    texts = list(_texts(source, options, choose_on_bad(options.bad_rows, skipped)))
    say_skipped(source, options.ptx_split, skipped)
    require_blocks(texts, tokenizer, config.train.seq_length, least=global_batch(config))
    return texts


def _texts(source: str, options: PretrainingOptions, on_bad: BadRows) -> Iterator[str]:
    opened = open_source(source, options.ptx_split, options.columns.get("split", "split"))
    for row in itertools.islice(opened.rows(on_bad), options.ptx_limit):
        try:
            text = _text(row, options.ptx_column)
        except BadRow as bad:
            on_bad(bad)
            continue
        if text.strip():  # sets such as wikitext are full of blank rows
            yield text


def _text(row: RawRow, column: str) -> str:
    """The text there, which may be blank. Raises: BadRow for a row without one."""
    text = text_or_none(row, column)
    if text is None:
        columns = f"columns: {listed(row.values)}"
        raise BadRow(row.where, f"no text in column '{column}'", f"name another with --ptx_column, {SKIP}", columns)
    return text
