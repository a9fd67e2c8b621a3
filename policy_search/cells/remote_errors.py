"""What can go wrong between us and a web server, and how it is said. Only user of urllib3."""

from __future__ import annotations

import urllib3

from policy_search.cells.errors import DataError

# What reading the body of an answer may raise.
READ_ERRORS = (urllib3.exceptions.HTTPError, OSError)


class Passing(Exception):
    """A failure after which another try makes sense. `pause`: seconds that the server asked for."""

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause


class Unreachable(DataError):
    """The last try failed.

    Attributes:
        url: that was asked for.
        why: the last failure.
    """

    def __init__(self, url: str, why: str, tries: int) -> None:
        super().__init__(f"{url} cannot be read: {why} ({tries} tries)")
        self.url = url
        self.why = why


class Changed(Exception):
    """The server has another version of the file than the one that was begun."""


class NoRanges(Exception):
    """The server sends a whole file where a part was asked for."""


def reason(error: BaseException) -> str:
    """The cause of a failed request in a few words, out of the layers that requests and urllib3 put around it."""
    layers: list[BaseException] = []
    rest: list[object] = [error]
    while rest:
        layer = rest.pop()
        if isinstance(layer, BaseException) and layer not in layers:
            layers.append(layer)
            rest += [layer.__cause__, layer.__context__, getattr(layer, "reason", None), *layer.args]
    if any(isinstance(layer, urllib3.exceptions.NameResolutionError) for layer in layers):
        return "the server's name is not known; is there a network?"
    told = [e.strerror for e in layers if isinstance(e, OSError) and e.strerror]
    if told:
        return str(told[-1])
    for kind, text in (
        (urllib3.exceptions.ConnectTimeoutError, "no connection in time"),
        (urllib3.exceptions.ReadTimeoutError, "nothing came any more"),
        (TimeoutError, "nothing came any more"),
        (urllib3.exceptions.ProtocolError, "the connection was cut"),
    ):
        if any(isinstance(layer, kind) for layer in layers):
            return text
    return str(layers[-1])


def refusal(url: str, status: int, phrase: str) -> str:
    """What a server's final answer means for who asked."""
    if status in (401, 403, 404, 410):
        return (
            f"{url} is not to be had: the server says {status} {phrase}. "
            "If LIVECELL_URL is set, it must be the address of a copy of LIVECell_dataset_2021"
        )
    return f"{url}: the server answers {status} {phrase}, which is not understood here"
