"""The recipe names every key that a `.conf` file may have."""

from __future__ import annotations

import re

import pytest

from launch.conf.keys import ModelConf, PPOConf
from tasks.run_folder import REPO
from trlx.utils.strict import keys_of


@pytest.mark.parametrize("kind", [ModelConf, PPOConf])
def test_every_key_is_in_the_table(kind: type) -> None:
    text = (REPO / "docs" / "recipes" / "instructions-on-ray.md").read_text()
    rows = "\n".join(line.partition("|")[2] for line in text.splitlines() if line.startswith("|"))
    told = set(re.findall(r"`(\w+)`", rows)) | set(re.findall(r"\*\*(\w+)\*\*", rows))
    assert {name.rpartition(".")[2] for name, _ in keys_of(kind)} <= told
