"""A folder of this process, and the files that a case writes there."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path


@functools.cache
def folder():
    """Returns a folder of this process that is gone at its end."""
    path = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def missing_folder():
    """Returns a path where nothing is."""
    return folder() / "missing"
