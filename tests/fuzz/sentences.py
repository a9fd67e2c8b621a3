"""What an error for a user has to be: one sentence or two that a terminal can show."""

from __future__ import annotations

from policy_search.cells.errors import InputError

LONGEST = 1500  # characters


def check_sentence(error: InputError, naming: str = "") -> None:
    """The message says something, names what it is about, and is no longer than a person reads."""
    text = str(error)
    assert text.strip(), "an error without a message"
    assert len(text) <= LONGEST, f"{len(text)} characters: {text[:200]} …"
    assert "Traceback" not in text
    assert naming in text
