"""A proxy before a PostgreSQL server that loses the answer to a commit: done, and the client never learns."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

COMMIT = b"COMMIT"


class Proxy:
    """Forwards connections to a server.

    Attributes:
        port: where clients connect.
        armed: part of a statement; the next transaction with it loses the answer to its commit. None: all arrive.
        lost: how many were lost.
        meanwhile: when set, the server does not get the armed commit either, and this is called before the client
            learns that its connection is gone.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.armed: bytes | None = None
        self.lost = 0
        self.meanwhile: Callable[[], object] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._server_port))
        losing = threading.Event()
        threading.Thread(target=self._answers, args=(server, client, losing), daemon=True).start()
        transaction = b""
        with suppress(OSError):
            while data := client.recv(65536):
                transaction += data
                if COMMIT in data:
                    if self.armed is not None and self.armed in transaction:
                        self.armed = None
                        if self.meanwhile is not None:
                            _shut(server)
                            self.meanwhile()
                            self.lost += 1
                            break
                        losing.set()  # before the server can answer
                    transaction = b""
                server.sendall(data)
        _shut(server)
        _shut(client)

    def _answers(self, server: socket.socket, client: socket.socket, losing: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if losing.is_set():
                    assert COMMIT in data, data  # the server's "command complete"
                    self.lost += 1
                    break
                client.sendall(data)
            else:
                return  # `_serve` has ended it, or the client has; servers behind a proxy are not restarted
        _shut(client)
        _shut(server)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def lossy(server_port: int) -> Iterator[Proxy]:
    """A proxy, closed at the end."""
    proxy = Proxy(server_port)
    try:
        yield proxy
    finally:
        proxy.close()
