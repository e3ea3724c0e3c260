"""Of which model a checkpoint is: every weight's shape and whether it is trained, compared before anything is loaded.

Left out: what the weights are; options that change no shape, such as a learning rate.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from trlx.utils.errors import UserError

LAYOUT_FILE = "layout.json"


def layout(module: nn.Module) -> dict[str, str]:
    """Weight → its shape, and whether it is trained; under ZeRO stage 3 too, which shows empty ones."""
    return {name: _described(weight) for name, weight in module.named_parameters()}


def require_same_model(folder: Path, ours: dict[str, str]) -> None:
    """Raises: UserError naming the first weight that differs. Checkpoints of before there was a layout pass."""
    if not (folder / LAYOUT_FILE).is_file():
        return
    theirs = json.loads((folder / LAYOUT_FILE).read_text(encoding="utf-8"))
    other = next((name for name in [*theirs, *ours] if theirs.get(name) != ours.get(name)), None)
    if other is not None:
        raise UserError(
            f"{folder} is of another model: {other} is {theirs.get(other, 'absent')} there and "
            f"{ours.get(other, 'absent')} here: resume with the model and options it was written with, or begin anew"
        )


def _described(weight: nn.Parameter) -> str:
    """`"2013x128, frozen"`."""
    shape = vars(weight).get("ds_shape", weight.shape)
    return f"{'x'.join(map(str, shape)) or 'a number'}, {'trained' if weight.requires_grad else 'frozen'}"
