"""Tables of the datasets library: a hub id, or a folder written by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.reading.rows import RawRow
from trlx.utils.errors import UserError
from trlx.utils.hub import settle_offline

if TYPE_CHECKING:
    import datasets

# A table without splits has the one name None.
Tables = dict[str | None, "datasets.Dataset"]
_MARKS = ("dataset_dict.json", "state.json")
_LOCAL = "point at local files with --data FOLDER_OR_FILE"


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote into a folder."""
    return any((folder / name).exists() for name in _MARKS)


def saved_tables(folder: Path) -> Tables:
    """The splits that `save_to_disk` wrote into a folder. Raises: UserError when they cannot be read."""
    import datasets

    try:
        return _tables(datasets.load_from_disk(str(folder)))
    except Exception as error:  # of a damaged folder the library and pyarrow raise anything
        raise UserError(f"{folder}: not a whole save_to_disk folder ({_reason(error)}): save it anew") from error


def hub_tables(source: str) -> Tables:
    """The splits of a set of the hub, or of the hub's local cache.

    Args:
        source: "owner/name", or "owner/name:configuration".

    Raises: UserError when the hub cannot be reached or does not give it.
    """
    import datasets

    settle_offline()
    name, _, configuration = source.partition(":")
    try:
        return _tables(datasets.load_dataset(name, configuration) if configuration else datasets.load_dataset(name))
    except Exception as error:  # the hub's client raises dozens of classes, of several libraries
        if _is_unreachable(error):
            raise UserError(
                f"'{source}' is no local path, and no hub can be reached ({_reason(error)}): {_LOCAL}"
            ) from error
        raise UserError(
            f"'{source}' is neither a local path nor a data set that the hub gives us ({_reason(error)}): "
            f"check the name (NAME:CONFIGURATION for one of several), or {_LOCAL}"
        ) from error


def iter_table(table: datasets.Dataset, name: str) -> Iterator[RawRow]:
    """The rows of a table; rows are read from the disk as they are asked for."""
    rows = iter(table)
    for number in range(1, len(table) + 1):
        try:
            values = next(rows)
        except Exception as error:  # pyarrow again
            raise UserError(f"{name}, row {number}: cannot be read ({_reason(error)}): save the data anew") from error
        yield RawRow(values, f"{name}, row {number}")


def _tables(loaded: Any) -> Tables:
    import datasets

    if isinstance(loaded, datasets.DatasetDict):
        return {str(name): table for name, table in loaded.items()}
    return {None: loaded}


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, is about the network; offline mode counts."""
    while error is not None:
        # By name as well: the HTTP libraries' classes are not the built-in ones.
        if isinstance(error, ConnectionError | TimeoutError) or type(error).__name__.startswith("Connect"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    return " ".join(str(error).split("\n")[0].split()) or type(error).__name__
