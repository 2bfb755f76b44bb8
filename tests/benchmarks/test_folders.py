import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from syncattn.benchmarks.folders import BusyFolderError, held, holds_files, require_output

HOLDER = """
import sys, time
from pathlib import Path
from syncattn.benchmarks.folders import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_at_a_time_holds_a_folder_and_leaves_nothing(tmp_path):
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        with held(folder):
            with pytest.raises(BusyFolderError, match=r"`output` .* in use by another process"):
                with held(folder):
                    raise AssertionError
            assert not holds_files(folder)
        assert folder.is_dir() and not list(folder.iterdir())


def test_an_error_lets_go_of_a_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), held(tmp_path):
        raise KeyboardInterrupt
    with held(tmp_path):
        pass


def test_death_lets_go_of_a_folder_and_what_it_leaves_is_no_file(tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyFolderError), held(tmp_path):
            raise AssertionError
        other.kill()
    assert not holds_files(tmp_path)
    with held(tmp_path):
        pass


def test_a_file_system_without_locks_is_written_nevertheless(tmp_path, monkeypatch):
    def knows_none(*_, **__):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", knows_none)
    with held(tmp_path):
        (tmp_path / "records.jsonl").touch()
    assert holds_files(tmp_path)


def test_what_cannot_be_written_is_refused_and_leaves_no_trace(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`output` must be a folder; got the file .*file\."):
        require_output(tmp_path / "file")
    for inside in ("file/deeper", "file/deeper/still"):
        with pytest.raises(ValueError, match="`output` must be a folder that can be written"):
            require_output(tmp_path / inside)
    with pytest.raises(ValueError, match="`output` must be a folder that can be written"):
        require_output(tmp_path / ("a" * 300))
    with pytest.raises(ValueError, match="`output` must have a name in UTF-8"):
        require_output(tmp_path / "zwei-\udcc3\udca4")
    require_output(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has /proc")
def test_a_folder_that_the_system_does_not_make_is_refused():
    with pytest.raises(ValueError, match=f"`output` .* got /proc/x .{os.strerror(2)}"):
        require_output(Path("/proc/x"))
