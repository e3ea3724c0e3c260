"""Stores of token ids by hand-made items, and the cache with real processes that race and die."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from trlx.pipeline.batch_tokenizer import BatchTokenizer
from trlx.pipeline.token_cache import all_facts, cached, code_hash, content_key, tokenizer_facts
from trlx.pipeline.token_store import IDS, META, NUMBERS, OFFSETS, Layout, TokenBlock, TokenStore, TokenWriter
from trlx.utils.errors import UserError

ONE = Layout(("ids",), 300)
PAIR = Layout(("prompt", "chosen", "rejected"), 70_000, ("gold", "weight"))
PAIRS = [([1, 2], [3], [69_999]), ([], [4, 5, 6], []), ([7], [], [8])]
GOLD = [(1.0, 0.5), (0.0, 2.0), (math.nan, -1.0)]


def write_pairs(folder: Path) -> TokenStore:
    folder.mkdir()
    writer = TokenWriter(folder, PAIR)
    writer.append(TokenBlock.of(PAIRS[:2], GOLD[:2]))
    writer.append(TokenBlock.of([]))
    writer.append(TokenBlock.of(PAIRS[2:], GOLD[2:]))
    writer.notes["dropped"] = 4
    writer.finish("key", {"data": "x"})
    store = TokenStore.open(folder, "key")
    assert store is not None
    return store


def test_the_files_by_hand(tmp_path: Path) -> None:
    """Ids above 65,535 take four bytes; each part ends where the next begins."""
    write_pairs(tmp_path / "s")
    assert np.fromfile(tmp_path / "s" / IDS, "<u4").tolist() == [1, 2, 3, 69_999, 4, 5, 6, 7, 8]
    assert np.fromfile(tmp_path / "s" / OFFSETS, "<i8").tolist() == [0, 2, 3, 4, 4, 7, 7, 8, 8, 9]
    assert np.fromfile(tmp_path / "s" / NUMBERS, "<f8").tolist()[:4] == [1.0, 0.5, 0.0, 2.0]
    meta = json.loads((tmp_path / "s" / META).read_text())
    assert (meta["items"], meta["tokens"], meta["made_from"], meta["notes"]) == (3, 9, {"data": "x"}, {"dropped": 4})


def test_reading_by_hand(tmp_path: Path) -> None:
    store = write_pairs(tmp_path / "s")
    assert len(store) == 3 and store.notes == {"dropped": 4}
    assert store[0] == {"prompt": [1, 2], "chosen": [3], "rejected": [69_999], "gold": 1.0, "weight": 0.5}
    assert store[-2] == store[1] == {"prompt": [], "chosen": [4, 5, 6], "rejected": [], "gold": 0.0, "weight": 2.0}
    assert math.isnan(store[2]["gold"])
    assert [item["chosen"] for item in store] == [item["chosen"] for item in store[:]] == [[3], [4, 5, 6], []]
    assert all(type(token) is int for token in store[0]["prompt"])
    assert store.lengths.tolist() == [4, 3, 2]
    assert {name: lengths.tolist() for name, lengths in store.part_lengths.items()} == {
        "prompt": [2, 0, 1],
        "chosen": [1, 3, 0],
        "rejected": [1, 0, 1],
    }
    for index in (3, -4):
        with pytest.raises(IndexError):
            store[index]


@pytest.mark.parametrize(("vocabulary", "size"), [(65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_when_all_fit(vocabulary: int, size: int, tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, Layout(("ids",), vocabulary))
    writer.append(TokenBlock.of([([0, 65_535],)]))
    writer.finish()
    assert (tmp_path / IDS).stat().st_size == 2 * size
    assert TokenStore(tmp_path)[0] == {"ids": [0, 65_535]}


def test_what_does_not_fit_the_layout_is_refused(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path, ONE)
    with pytest.raises(ValueError, match="token id 300 in a vocabulary of 300"):
        writer.append(TokenBlock.of([([300],)]))
    for block in (TokenBlock.of([([1], [2])]), TokenBlock.of([([1],)], [[0.5]])):
        with pytest.raises(ValueError, match="in a store of"):
            writer.append(block)
    with pytest.raises(ValueError, match="do not belong together"):
        writer.append(TokenBlock(np.zeros(3, np.uint32), np.ones((2, 1), np.int64), np.zeros((2, 0))))
    writer.close()
    assert TokenStore.open(tmp_path, "") is None


runs = st.lists(st.integers(0, 69_999), max_size=5)


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(st.lists(st.tuples(runs, runs, runs), max_size=4), max_size=4))
def test_what_is_written_is_read(blocks: list[list[tuple[list[int], ...]]], tmp_path_factory: Any) -> None:
    def fill(writer: TokenWriter) -> None:
        for block in blocks:
            writer.append(TokenBlock.of(block, [(float(len(item[0])), 0.5) for item in block]))

    store = cached(None, None, PAIR, fill)
    items = [item for block in blocks for item in block]
    assert [(item["prompt"], item["chosen"], item["rejected"]) for item in store] == items
    assert [item["gold"] for item in store] == [len(item[0]) for item in items]
    assert store.lengths.tolist() == [sum(map(len, item)) for item in items]


def test_another_process_gets_the_files_or_a_copy(tmp_path: Path) -> None:
    kept, copied = write_pairs(tmp_path / "s"), cached(None, None, ONE, fill_one)
    packed = pickle.dumps(kept)
    assert len(packed) < 400  # the path, no ids
    assert pickle.loads(packed)[1] == kept[1]
    assert pickle.loads(pickle.dumps(copied))[0] == copied[0] == {"ids": [1, 2, 3]}


# The cache


def fill_one(writer: TokenWriter) -> None:
    writer.append(TokenBlock.of([([1, 2, 3],), ([4],)]))
    writer.notes["left_out"] = 1


def never(writer: TokenWriter) -> None:
    raise AssertionError("built although it is there")


def the_store(cache: Path) -> Path:
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    return folder


def test_built_once_and_found_again(tmp_path: Path) -> None:
    first = cached(tmp_path / "c", {"data": "a"}, ONE, fill_one)
    again = cached(tmp_path / "c", {"data": "a"}, ONE, never)
    assert list(first) == list(again) == [{"ids": [1, 2, 3]}, {"ids": [4]}]
    assert again.notes == {"left_out": 1}
    assert again.ids.base is not None  # mapped, not read
    assert len(list((tmp_path / "c").glob(".*"))) == 0


@pytest.mark.parametrize(
    ("made_from", "layout"),
    [({"data": "b"}, ONE), ({"data": "a", "limit": 3}, ONE), ({"data": "a"}, Layout(("ids",), 301))],
)
def test_anything_different_is_another_store(made_from: dict[str, Any], layout: Layout, tmp_path: Path) -> None:
    cached(tmp_path, {"data": "a"}, ONE, fill_one)
    with pytest.raises(AssertionError, match="built although"):
        cached(tmp_path, made_from, layout, never)
    assert content_key(ONE, {"x": 1, "y": 2}) == content_key(ONE, {"y": 2, "x": 1})


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def edit_meta(**values: Any) -> Callable[[Path], None]:
    return edit(META, lambda content: json.dumps({**json.loads(content), **values}).encode())


@pytest.mark.parametrize(
    "spoil",
    [
        edit(IDS, lambda content: content[:-1]),
        edit(IDS, lambda content: content + b"\0\0"),
        edit(OFFSETS, lambda content: content[:-8]),
        edit(OFFSETS, lambda content: content[:-8] + b"\0" * 8),
        edit(NUMBERS, lambda content: b"12345678"),
        edit(META, lambda content: content[:20]),
        edit(META, lambda content: b"[]"),
        edit(META, lambda content: b"\xff\xfe"),
        edit_meta(format=0),
        edit_meta(key="another"),
        edit_meta(items="2"),
        edit_meta(parts=None),
        edit_meta(more=1),
        lambda folder: (folder / OFFSETS).unlink(),
        lambda folder: (folder / META).unlink(),
    ],
)
def test_a_spoilt_store_is_built_anew(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    cached(tmp_path, {}, ONE, fill_one)
    spoil(the_store(tmp_path))
    with pytest.raises(AssertionError, match="built although"):
        cached(tmp_path, {}, ONE, never)
    assert list(cached(tmp_path, {}, ONE, fill_one)) == [{"ids": [1, 2, 3]}, {"ids": [4]}]
    assert len(cached(tmp_path, {}, ONE, never)) == 2


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def broken(writer: TokenWriter) -> None:
        fill_one(writer)
        raise UserError("line 3: not JSON")

    for _ in range(2):  # and the lock is free again
        with pytest.raises(UserError, match="line 3"):
            cached(tmp_path, {}, ONE, broken)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_an_unwritable_folder_is_one_line_but_serves_what_it_has(tmp_path: Path) -> None:
    cached(tmp_path / "c", {"data": "a"}, ONE, fill_one)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/c: encoded data cannot be written there \(Not a directory\).*--cache"):
        cached(tmp_path / "file" / "c", {}, ONE, fill_one)
    if os.geteuid() != 0:  # nothing is forbidden to root
        (tmp_path / "c").chmod(0o500)
        assert len(cached(tmp_path / "c", {"data": "a"}, ONE, never)) == 2
        with pytest.raises(UserError, match="Permission denied"):
            cached(tmp_path / "c", {"data": "b"}, ONE, fill_one)
        (tmp_path / "c").chmod(0o700)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    def fill(writer: TokenWriter) -> None:
        writer._files[IDS].close()
        writer._files[IDS] = Path("/dev/full").open("wb")  # noqa: SIM115
        writer.append(TokenBlock.of([([1] * 100_000,)]))

    with pytest.raises(UserError, match="No space left on device"):
        cached(tmp_path, {}, ONE, fill)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def _slow_fill(log: Path, seconds: float) -> Callable[[TokenWriter], None]:
    def fill(writer: TokenWriter) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        fill_one(writer)
        time.sleep(seconds)

    return fill


def _build_and_tell(cache: Path, log: Path, seconds: float, results: Any) -> None:
    results.put(list(cached(cache, {}, ONE, _slow_fill(log, seconds))))


CONTEXT = multiprocessing.get_context("spawn")


def start(count: int, cache: Path, log: Path, seconds: float, results: Any) -> list[Any]:
    processes = [
        CONTEXT.Process(target=_build_and_tell, args=(cache, log, seconds, results), daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def test_processes_that_race_build_once(tmp_path: Path) -> None:
    results = CONTEXT.Queue()
    processes = start(2, tmp_path / "c", tmp_path / "log", 1.0, results)
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert found == [[{"ids": [1, 2, 3]}, {"ids": [4]}]] * 2
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_killed_builder_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    cache, log, results = tmp_path / "c", tmp_path / "log", CONTEXT.Queue()
    (process,) = start(1, cache, log, 600.0, results)
    while not log.exists():
        assert process.is_alive()
        time.sleep(0.05)
    assert any(path.name.startswith(".") for path in cache.iterdir())  # it is at work
    os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=60)
    assert list(cached(cache, {}, ONE, fill_one)) == [{"ids": [1, 2, 3]}, {"ids": [4]}]
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]  # what it left aside is gone


# What a key is made of


def tokenizer(words: str, **options: Any) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words.split())}, unk_token="a"))
    return PreTrainedTokenizerFast(tokenizer_object=core, **options)


def test_tokenizers_are_told_apart_by_what_changes_ids() -> None:
    same = tokenizer_facts(BatchTokenizer(tokenizer("a b", eos_token="a")))
    used = tokenizer("a b", eos_token="a")
    used("a b", max_length=1, truncation=True)
    assert tokenizer_facts(BatchTokenizer(used)) == same
    others = [
        tokenizer("b a", eos_token="a"),
        tokenizer("a b", eos_token="b"),
        tokenizer("a b", eos_token="a", split_special_tokens=True),
    ]
    facts = [json.dumps(tokenizer_facts(BatchTokenizer(other))) for other in others]
    assert len({*facts, json.dumps(same)}) == 4


def test_what_cannot_be_told_is_not_cached(tmp_path: Path) -> None:
    written_in_python = BatchTokenizer(SimpleNamespace(eos_token_id=0))
    assert all_facts(written_in_python, {}, {"data": "a"}) is None
    assert all_facts(BatchTokenizer(tokenizer("a b")), {}, None) is None
    store = cached(tmp_path / "c", None, ONE, fill_one)
    assert list(store) == [{"ids": [1, 2, 3]}, {"ids": [4]}] and not (tmp_path / "c").exists()


def test_edited_code_is_other_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("")
    first = code_hash([tmp_path])
    assert code_hash([tmp_path / "b.py", tmp_path / "a.py"]) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_hash([tmp_path]) != first
