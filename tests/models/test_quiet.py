from transformers.utils import logging

from syncattn.models.quiet import quiet_transformers


def test_bars_and_messages_come_back():
    verbosity = logging.get_verbosity()
    with quiet_transformers():
        assert not logging.is_progress_bar_enabled()
        assert logging.get_verbosity() == logging.ERROR
    assert logging.is_progress_bar_enabled()
    assert logging.get_verbosity() == verbosity


def test_what_was_silent_stays_silent():
    logging.disable_progress_bar()
    try:
        with quiet_transformers():
            pass
        assert not logging.is_progress_bar_enabled()
    finally:
        logging.enable_progress_bar()
