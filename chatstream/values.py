"""What values have in common.

Comparing and showing are written once, for all classes: left to attrs, their code is
generated anew for each of them, which took half of the time of importing them.
"""

from __future__ import annotations

from attrs import fields


class Shown:
    """Shows those of its fields that are set."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = (
            f"{each.name}={value!r}"
            for each in fields(type(self))  # type: ignore[arg-type]  # an attrs class
            if each.init
            and each.repr
            and (value := getattr(self, each.name)) is not None
            and value != {}
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Value(Shown):
    """Is what its fields are."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            getattr(self, each.name) == getattr(other, each.name)
            for each in fields(type(self))  # type: ignore[arg-type]  # an attrs class
            if each.eq
        )

    def __hash__(self) -> int:
        cls = type(self)
        values = (getattr(self, each.name) for each in fields(cls) if each.eq)  # type: ignore[arg-type]
        return hash((cls, *values))  # raises if one of them is a mapping or a list
