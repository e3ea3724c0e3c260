"""Trainers and pipelines by name, as scripts written for trlX look them up.

The only module here that knows of the floors above; it reaches them when it is called.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def get_trainer(name: str) -> Any:
    """The trainer class registered as `name`, in any case; every trainer of this package is known.

    Raises: UserError naming the nearest known one.
    """
    from trlx import trainer

    for module in pkgutil.iter_modules(trainer.__path__):
        if module.name.endswith("_trainer"):  # importing it registers its class
            importlib.import_module(f"{trainer.__name__}.{module.name}")
    return trainer.get_trainer(name)


def get_pipeline(name: str) -> Any:
    """The pipeline class registered as `name`, in any case. Raises: UserError naming the nearest known one."""
    from trlx import pipeline
    from trlx.pipeline import offline_pipeline as _registers  # noqa: F401

    return pipeline.get_pipeline(name)
