from __future__ import annotations

from router.memo import EntryMemo, KeyedMemo, missing


def test_an_entry_is_computed_once_while_it_stays() -> None:
    computed: list[str] = []

    def compute(entry: list[str]) -> str:
        computed.append(entry[0])
        return entry[0].upper()

    memo = EntryMemo(compute)
    a, b, c = ["a"], ["b"], ["c"]
    assert memo.map([a, b]) == ["A", "B"]
    assert memo.map([b, c, a]) == ["B", "C", "A"]
    assert computed == ["a", "b", "c"]
    # what left the list is forgotten
    assert memo.map([]) == []
    assert memo.map([a]) == ["A"]
    assert computed == ["a", "b", "c", "a"]


def test_a_new_key_computes_all_anew() -> None:
    memo: KeyedMemo[str, tuple[int], str] = KeyedMemo(lambda key, entry: f"{key}{entry[0]}")
    entries = [(1,), (2,)]
    assert memo.map("x", entries) == ["x1", "x2"]
    assert memo.map("y", entries) == ["y1", "y2"]
    assert memo.map("x", entries) == ["x1", "x2"]


def test_missing_goes_by_identity() -> None:
    kept, gone = [1], [2]
    assert missing([kept, gone], [kept, [2]]) == [gone]
