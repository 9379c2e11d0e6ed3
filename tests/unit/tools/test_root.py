from __future__ import annotations

from pathlib import Path

from tools.image.root import forget_scripts


def test_records_say_nothing_of_scripts(tmp_path: Path) -> None:
    record = tmp_path / "idna-3.20.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("../../bin/idna,sha256=h9mXc_SQrAN0,223\nidna/__init__.py,sha256=abc,1\n")
    forget_scripts(tmp_path)
    assert record.read_text() == "idna/__init__.py,sha256=abc,1\n"
