"""Classes by name: what trainers, pipelines and methods are looked up in."""

from __future__ import annotations

from typing import Any

from trlx.utils.errors import UserError, nearest


class Registry(dict[str, type]):
    """Lower-cased name → class.

    Args:
        kind: what is registered, for messages.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str | type) -> Any:
        """Class decorator, bare (`@register`, under the class's own name) or with a name (`@register("other")`)."""
        if isinstance(name, type):
            self[name.__name__.lower()] = name
            return name

        def decorate(cls: type) -> type:
            self[name.lower()] = cls
            return cls

        return decorate

    def find(self, name: str) -> Any:
        """The class registered as `name`, in any case. Raises: UserError naming the nearest known one."""
        if name.lower() not in self:
            raise UserError(f"unknown {self.kind} '{name}'{nearest(name.lower(), self)}")
        return self[name.lower()]
