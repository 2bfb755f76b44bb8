"""Transformers without its bars and reminders, for as long as ours are shown."""

from collections.abc import Generator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Generator[None]:
    """Silences the bar of every file saved or loaded and messages below errors, then restores."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
