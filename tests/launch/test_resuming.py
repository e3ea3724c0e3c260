"""Options that are others than before."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from launch.resuming import changed_options


@dataclass
class Train:
    batch_size: int = 4
    betas: tuple[float, float] = (0.9, 0.95)
    checkpoint_dir: str = ""


@dataclass
class Options:
    root: str
    data: str
    resume: bool | str = False
    train: Train = field(default_factory=Train)


def options(root: str, **train: object) -> Options:
    return Options(root, f"{root}/data", train=Train(checkpoint_dir=f"{root}/ckpts", **train))  # type: ignore[arg-type]


def test_each_is_named_and_what_cannot_change_a_number_is_not(tmp_path: Path) -> None:
    assert changed_options(tmp_path, options("a")) is None  # no record
    (tmp_path / "run.json").write_text(json.dumps({"options": dataclasses.asdict(options("/runs/a"))}))
    moved = options("/elsewhere")
    moved.resume, moved.train.checkpoint_dir = "auto", "other"
    assert changed_options(tmp_path, moved) is None
    said = changed_options(tmp_path, options("/runs/a", batch_size=2, betas=(0.9, 0.5)))
    assert said is not None and said.endswith(": train.batch_size 4 → 2, train.betas [0.9, 0.95] → [0.9, 0.5]")
    (tmp_path / "run.json").write_text('{"options": []}')
    assert changed_options(tmp_path, moved) is None  # a record of something else
