"""What was written to a client and waits for it to be taken: the last deadline of an answer.

Owns for how long a connection may stand still with something in it, whoever wrote that and whether or not anybody still
waits for it. Must not know what it is.
"""

import asyncio
import fcntl
import struct
import termios


class Backlog:
    """Of one connection, which whoever made it may close: until what waits is taken, it is there all the same."""

    __slots__ = ("_since", "_size", "_transport")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._since = 0.0
        self._size = 0

    def look(self, now: float, patience: float) -> None:
        """Ends the connection at once where nothing of what waits was taken since a look so many seconds ago.

        In seconds of the event loop's clock.
        """
        size = self._transport.get_write_buffer_size()
        if size:
            size += self._in_the_kernel()
        if not size or size != self._size:
            self._size, self._since = size, now
        elif now - self._since >= patience:
            self._transport.abort()

    def _in_the_kernel(self) -> int:
        """Bytes that the client's machine has not confirmed. They tell of one that takes little at a time: the kernel
        has room for megabytes, and asks for more only when much of that is free. Source: Linux, tcp(7), SIOCOUTQ.
        """
        connection = self._transport.get_extra_info("socket")
        try:
            told = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)) if connection else bytes(4)
        except (OSError, ValueError):
            return 0  # not on this system, or there is no connection any more
        return int(struct.unpack("i", told)[0])
