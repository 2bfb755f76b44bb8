"""Without the typing hook, whose refusals would hide the package's own."""

import jaxtyping
import pytest


@pytest.fixture(scope="module", autouse=True)
def without_typing_hook():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
