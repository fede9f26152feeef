"""Ports that commands serve on."""

from __future__ import annotations

import socket

from training.errors import FoundryError


def require_free_port(command: str, host: str, port: int) -> None:
    """Raise FoundryError when something listens on the port already, or the host is no address of this machine.

    ``command`` is named in the sentence, as in ``foundry ui``.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise FoundryError(
            f"--host is '{host}', which is no address ({error.strerror}); give one of this machine, such as 127.0.0.1"
        ) from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise FoundryError(
                f"Port {port} on {host} is taken, perhaps by another `{command}`. "
                f"Stop that one, or choose another port: {command} --port {port + 1}."
            ) from error
