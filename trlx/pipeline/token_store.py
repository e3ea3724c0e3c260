"""A data set as token ids laid end to end in one flat file, memory-mapped: it may be larger than memory.

An item has the same named parts as every other (e.g. a prompt and a response), each a run of ids of any length, and
may have numbers. Reading one touches its own pages only; lengths are known without touching the ids. No padding is
stored and nothing is joined across items: "packed" means end to end on disk, not several items in one row of a batch.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from trlx.utils.errors import UserError

FORMAT = 1
META, IDS, OFFSETS, NUMBERS = "meta.json", "ids.bin", "offsets.bin", "numbers.bin"


@dataclass(frozen=True)
class Layout:
    """What every item of a store has.

    Args:
        parts: names of its runs of ids, in the order they lie on disk.
        vocabulary: every id is below this; up to 65,536 an id takes two bytes, else four.
        numbers: names of its numbers, float64.
    """

    parts: tuple[str, ...]
    vocabulary: int
    numbers: tuple[str, ...] = ()

    @property
    def id_type(self) -> np.dtype:
        return np.dtype("<u2" if self.vocabulary <= 2**16 else "<u4")


@dataclass(frozen=True)
class TokenBlock:
    """N items on their way into a store whose layout has K parts and M numbers."""

    ids: np.ndarray  # (sum of lengths,), item after item and part after part
    lengths: np.ndarray  # (N, K), ids of each part
    numbers: np.ndarray  # (N, M)

    @staticmethod
    def of(items: Sequence[Sequence[Sequence[int]]], numbers: Sequence[Sequence[float]] | None = None) -> TokenBlock:
        """From lists: items[n][k] are the ids of one part, numbers[n] the numbers of one item."""
        runs = [np.array(part, dtype=np.uint32) for item in items for part in item]
        lengths = np.array([len(run) for run in runs], dtype=np.int64)
        return TokenBlock(
            ids=np.concatenate(runs) if runs else np.empty(0, np.uint32),
            lengths=lengths.reshape(len(items), -1 if items else 0),
            numbers=np.array(numbers if numbers is not None else [[]] * len(items), dtype=np.float64),
        )


class TokenWriter:
    """Writes a store block by block into an empty folder; `finish` makes it readable.

    Args:
        folder: exists, and is nobody else's.

    Attributes:
        notes: what is to be known of the store besides its items, any JSON; may be filled until `finish`.
    """

    def __init__(self, folder: Path, layout: Layout):
        self.folder, self.layout = folder, layout
        self.notes: dict[str, Any] = {}
        self.items = self.tokens = 0
        with writing_to(folder):
            self._files = {name: (folder / name).open("wb") for name in (IDS, OFFSETS, NUMBERS)}
            self._files[OFFSETS].write(np.zeros(1, "<i8").tobytes())

    def append(self, block: TokenBlock) -> None:
        """Add items. Raises: ValueError when they do not fit the layout."""
        if not len(block.lengths):
            return
        shapes = (block.lengths.shape[1:], block.numbers.shape[1:])
        if shapes != ((len(self.layout.parts),), (len(self.layout.numbers),)):
            raise ValueError(f"items of shape {shapes} in a store of {self.layout}")
        if len(block.ids) != block.lengths.sum() or len(block.lengths) != len(block.numbers):
            raise ValueError("a block whose ids, lengths and numbers do not belong together")
        if len(block.ids) and int(block.ids.max()) >= self.layout.vocabulary:
            raise ValueError(f"token id {block.ids.max()} in a vocabulary of {self.layout.vocabulary}")
        ends = self.tokens + np.cumsum(block.lengths.ravel())
        with writing_to(self.folder):
            self._files[IDS].write(block.ids.astype(self.layout.id_type).tobytes())
            self._files[OFFSETS].write(ends.astype("<i8").tobytes())
            self._files[NUMBERS].write(block.numbers.astype("<f8").tobytes())
        self.items += len(block.lengths)
        self.tokens += len(block.ids)

    def finish(self, key: str = "", made_from: Mapping[str, Any] | None = None) -> None:
        """Close the files and write what is needed to read them, last of all.

        Args:
            key: tells stores apart; see `TokenStore.open`. made_from: the same for people, any JSON.
        """
        meta = _Meta(
            format=FORMAT,
            key=key,
            parts=list(self.layout.parts),
            numbers=list(self.layout.numbers),
            vocabulary=self.layout.vocabulary,
            items=self.items,
            tokens=self.tokens,
            notes=self.notes,
            made_from=dict(made_from or {}),
        )
        with writing_to(self.folder):
            self.close()
            (self.folder / META).write_text(json.dumps(vars(meta), indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Close the files; without `finish` they are no store."""
        for file in self._files.values():
            file.close()


@dataclass
class _Meta:
    """The content of `meta.json`."""

    format: int
    key: str
    parts: list[str]
    numbers: list[str]
    vocabulary: int
    items: int
    tokens: int
    notes: dict[str, Any]
    made_from: dict[str, Any]

    @property
    def layout(self) -> Layout:
        return Layout(tuple(self.parts), self.vocabulary, tuple(self.numbers))

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            IDS: self.tokens * self.layout.id_type.itemsize,
            OFFSETS: (self.items * len(self.parts) + 1) * 8,
            NUMBERS: self.items * len(self.numbers) * 8,
        }


class TokenStore(Sequence[dict[str, Any]]):
    """A store that was finished. `store[i]` is {part: list of ids, number: float}.

    Attributes:
        layout: what items have. notes: what its writer noted.
        offsets: (N·K + 1,), where each part begins and the last ends. numbers: (N, M).
    """

    def __init__(self, folder: Path):
        meta = _Meta(**json.loads((folder / META).read_text(encoding="utf-8")))
        self.folder: Path | None = folder
        self.layout, self.notes = meta.layout, meta.notes
        self._items = meta.items
        self.ids = _mapped(folder / IDS, self.layout.id_type)
        self.offsets = _mapped(folder / OFFSETS, np.dtype("<i8"))
        self.numbers = _mapped(folder / NUMBERS, np.dtype("<f8")).reshape(meta.items, len(meta.numbers))

    @staticmethod
    def open(folder: Path, key: str) -> TokenStore | None:
        """The store in a folder, or None when there is none that is whole, of this version and of this key."""
        try:
            meta = _Meta(**json.loads((folder / META).read_text(encoding="utf-8")))
            if (meta.format, meta.key) != (FORMAT, key):
                return None
            if any((folder / name).stat().st_size != size for name, size in meta.sizes().items()):
                return None
            store = TokenStore(folder)
        except (OSError, ValueError, TypeError, AttributeError):  # missing, torn, or somebody else's
            return None
        return store if (store.offsets[0], store.offsets[-1]) == (0, meta.tokens) else None

    def __reduce__(self) -> Any:
        # A process that is given the store maps the files itself; a temporary one has no more files and is copied.
        return (TokenStore, (self.folder,)) if self.folder else super().__reduce__()

    def __len__(self) -> int:
        return self._items

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        parts = self.layout.parts
        ends = self.offsets[index * len(parts) : (index + 1) * len(parts) + 1].tolist()
        item: dict[str, Any] = {
            name: self.ids[start:end].tolist() for name, start, end in zip(parts, ends, ends[1:], strict=False)
        }
        return item | dict(zip(self.layout.numbers, self.numbers[index].tolist(), strict=True))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    @functools.cached_property
    def part_lengths(self) -> Mapping[str, np.ndarray]:
        """Part → ids of each item, (N,)."""
        lengths = np.diff(self.offsets).reshape(len(self), len(self.layout.parts))
        return {name: lengths[:, column] for column, name in enumerate(self.layout.parts)}

    @property
    def lengths(self) -> np.ndarray:
        """Ids of each item, all parts together, (N,)."""
        return np.diff(self.offsets[:: len(self.layout.parts)])


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """A file's content without reading it; an empty file cannot be mapped."""
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Within the block an OSError means that the folder cannot be written: one line for the person who chose it."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: encoded data cannot be written there ({error.strerror or error}): make room or allow writing, "
            "or name another folder (--cache)"
        ) from error
