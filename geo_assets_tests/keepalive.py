"""How soon Linux notices on a connection that the other end has vanished."""

import os
import socket


def seconds_until_noticed(descriptor):
    """Seconds after which a TCP connection is given up that waits for an answer; None if nobody asks the other end."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return None
        idle, between, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        return idle + between * count
