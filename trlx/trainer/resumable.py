"""What a user's function may have to be resumed with a run.

Names of its own: a reward function may be a torch module, whose `state_dict` is something else. Left out: tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Resumable(Protocol):
    """A reward function with a memory that its scores depend on, such as what it scores once for all."""

    def resume_state(self) -> dict[str, Any]:
        """JSON-able; written into every checkpoint by the main rank, which alone calls the function."""

    def load_resume_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `resume_state` gave."""
