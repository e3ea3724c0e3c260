"""Encoded data found again by the content they were made from, built once however many processes ask.

The key is a hash of everything that changes the result: the data, the tokenizer, the parameters and the code. A store
is written aside and renamed, so a kill leaves nothing that looks whole; who finds a torn or foreign one builds it anew.
Processes wait for each other at a file lock and never at a collective, so an error is raised by every rank alike.
Left out: removing old stores; the folder may be deleted at any time that no run is using it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from filelock import FileLock

from trlx.pipeline import batch_tokenizer, quick_cut, token_store
from trlx.pipeline.batch_tokenizer import BatchTokenizer
from trlx.pipeline.token_store import FORMAT, Layout, TokenStore, TokenWriter, writing_to
from trlx.utils.files import publish, recover

Fill = Callable[[TokenWriter], None]


def cached(cache: Path | None, made_from: Mapping[str, Any] | None, layout: Layout, fill: Fill) -> TokenStore:
    """The store that `fill` writes, from the cache when it has been written before.

    Args:
        cache: folder of all stores, made when it is missing; None for a store of this process alone.
        made_from: names and JSON values of all that `fill` depends on; None is the same as no cache.
        layout: of the items.

    Raises: what `fill` raises, after which nothing is left; UserError when the folder cannot be written.
    """
    if cache is None or made_from is None:
        return _temporary(layout, fill)
    key = content_key(layout, made_from)
    folder = cache / key[:32]
    store = TokenStore.open(folder, key)
    if store is not None:  # needs no lock, so a cache that cannot be written serves too
        return store
    with writing_to(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        lock.acquire()
    try:
        recover(folder)
        return TokenStore.open(folder, key) or _build(folder, key, made_from, layout, fill)
    finally:
        lock.release()


def content_key(layout: Layout, made_from: Mapping[str, Any]) -> str:
    """SHA-256 over the format, the layout and all values. Raises: TypeError for a value that JSON has no form of."""
    facts = {"format": FORMAT, "layout": vars(layout), "made_from": dict(made_from)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def tokenizer_facts(tokenizer: BatchTokenizer) -> dict[str, Any] | None:
    """What tells a tokenizer's ids from another's, for `made_from`; None when it cannot be told (no Rust core)."""
    if tokenizer.core is None:
        return None
    return {
        "core": hashlib.sha256(tokenizer.core.to_str().encode()).hexdigest(),
        "splits_special_tokens": tokenizer.core.encode_special_tokens,
        "eos": tokenizer.eos_token_id,
        "tokenizers": tokenizers.__version__,
    }


def all_facts(
    tokenizer: BatchTokenizer, parameters: Mapping[str, Any], made_from: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Tokenizer, parameters and data together, for `cached`; None when the data or the tokenizer cannot be told."""
    facts = tokenizer_facts(tokenizer) if made_from is not None else None
    if facts is None:
        return None
    own = code_hash([Path(module.__file__ or "") for module in (batch_tokenizer, quick_cut, token_store)])
    return {"tokenizer": facts, "parameters": dict(parameters), "data": dict(made_from or {}), "code": own}


def code_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over Python files, and those below folders: a rule that is edited is never answered from an old store."""
    digest = hashlib.sha256()
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _build(folder: Path, key: str, made_from: Mapping[str, Any], layout: Layout, fill: Fill) -> TokenStore:
    """Write aside and rename. Whoever calls holds the lock, so what others left aside is of dead processes."""
    for stale in folder.parent.glob(f".{folder.name}.writing-*"):
        shutil.rmtree(stale, ignore_errors=True)
    # Named after the process all the same: on a disk whose locks do not hold, two writers then spoil nothing.
    staging = folder.with_name(f".{folder.name}.writing-{socket.gethostname()}-{os.getpid()}")
    try:
        _write(staging, key, made_from, layout, fill)
        with writing_to(folder.parent):
            publish(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return TokenStore(folder)


def _temporary(layout: Layout, fill: Fill) -> TokenStore:
    with tempfile.TemporaryDirectory(prefix="tokens-") as name:
        folder = Path(name) / "store"
        _write(folder, "", {}, layout, fill)
        store = TokenStore(folder)
        store.folder = None  # the files go now, what is mapped stays until the store goes
        return store


def _write(folder: Path, key: str, made_from: Mapping[str, Any], layout: Layout, fill: Fill) -> None:
    with writing_to(folder.parent):
        folder.mkdir()
    writer = TokenWriter(folder, layout)
    try:
        fill(writer)
        writer.finish(key, made_from)
    finally:
        writer.close()
