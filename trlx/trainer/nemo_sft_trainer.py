"""trlX's NeMo trainer for SFT: the name is known, so that a script learns what to use in its place."""

from __future__ import annotations

from typing import Any

from trlx.trainer import register_trainer
from trlx.utils.nemo import nemo_is_absent


@register_trainer
class NeMoSFTTrainer:
    """Raises: ImportError, always."""

    def __init__(self, *_: Any, **__: Any):
        raise nemo_is_absent("NeMoSFTTrainer", "AccelerateSFTTrainer")
