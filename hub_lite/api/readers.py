"""Streams a window to a client: what all endpoints that are read from share."""

import asyncio
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from hub_lite.errors import BadRequest, HubError
from hub_lite.transports import write_together
from hub_lite.windows import (
    LARGE_READ,
    Cursor,
    OffsetOutOfRange,
    ReaderStalled,
    Start,
    StreamFailed,
    WindowClosed,
)
from runner.protocol.log_record import Level, LogRecord, encode_log

from .answers import OCTETS

_MAX_DIGITS = 20  # of an offset; longer ones are nowhere, and Python takes its time with very long ones

Lost = Callable[[int], bytes]


class RangeNotSatisfiable(HubError):
    """The bytes asked for are not held."""

    status = 416
    reason = "Range Not Satisfiable"


def lost_text(count: int) -> bytes:
    """Return what a reader of text finds where bytes are lost to it."""
    return f"\n[hub-lite: {count} bytes are lost here: this reader was too slow]\n".encode()


def lost_record(count: int) -> bytes:
    """Return what a reader of JSON log lines finds where bytes are lost to it."""
    now = int(time.time() * 1000)
    return encode_log(
        LogRecord(
            f"{count} bytes of this log are lost here: this reader was too slow", Level.WARN, now, "Hub"
        )
    )


def open_at(open_window: Callable[[Start], Cursor], request: web.Request) -> Cursor:
    """Open a window where ``?offset=`` says, or where a new reader starts.

    Raises:
        BadRequest: the offset is none.
        RangeNotSatisfiable: it is not held.
    """
    wanted = request.query.get("offset")
    try:
        match wanted:
            case None | "earliest" | "latest":
                return open_window(wanted)
            case _ if wanted.isascii() and wanted.isdigit() and len(wanted) <= _MAX_DIGITS:
                return open_window(int(wanted))
            case _:
                raise BadRequest(f"offset must be earliest, latest or a number of bytes, not {wanted[:80]!r}")
    except OffsetOutOfRange as error:
        raise RangeNotSatisfiable(str(error)) from None


async def send_to_client(
    request: web.Request,
    cursor: Cursor,
    *,
    lost: Lost | None = None,
    lines: bool = False,
    beside: Callable[[], "asyncio.Task[None]"] | None = None,
) -> web.StreamResponse:
    """Stream what a cursor gives, to its end, and close the cursor.

    The answer has the absolute offset of its first byte in ``X-Stream-Offset``. A stream that is not complete is
    broken off, so that a client sees that it is not.

    Args:
        request: whose answer it is; of a HEAD only the head.
        cursor: where to read.
        lost: makes what stands in place of bytes that a slow reader has missed.
        lines: after such a loss, begin again at the next line.
        beside: started when the head is out, and ended with the stream.
    """
    with cursor:
        headers = {"Content-Type": OCTETS, "Cache-Control": "no-store", "X-Stream-Offset": str(cursor.offset)}
        if request.method == "HEAD":
            return web.Response(headers=headers)  # which takes no bytes away from a reader that wants them
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        writer = await response.prepare(request)
        assert writer is not None  # noqa: S101 - for the type checker: an answer that has ended would have none
        outlet = _Outlet(request, writer, cursor)
        companion = beside() if beside is not None else None
        try:
            await _copy(cursor, outlet, lost, lines=lines)
        except (StreamFailed, WindowClosed, ReaderStalled):
            break_off(request)
        except ConnectionError:
            pass  # the client is gone
        except asyncio.CancelledError:
            if not outlet.is_cut_off:
                raise
        finally:
            if companion is not None:
                companion.cancel()
        return response


def break_off(request: web.Request, *, at_once: bool = False) -> None:
    """Close the connection without the end of the body, after what was written, or at once if nobody takes it."""
    transport = request.transport
    if transport is not None:
        if at_once:
            transport.abort()
        else:
            transport.close()


class _Outlet:
    """The body of an answer in HTTP chunks, below aiohttp, which copies each chunk to join it with its frame.

    The bytes go to the transport as they are in the window, the same ones for every reader. The window sees by it how the
    client takes them, and cuts the client off when it holds up the others. There is one for each open stream: it is small.
    """

    __slots__ = ("_request", "_task", "_writer", "is_cut_off")

    def __init__(self, request: web.Request, writer: AbstractStreamWriter, cursor: Cursor) -> None:
        self._request = request
        self._writer = writer
        self._task = asyncio.current_task()
        self.is_cut_off = False
        cursor.on_cut = self._cut
        cursor.unsent = self._unsent

    def _cut(self) -> None:
        self.is_cut_off = True
        break_off(self._request, at_once=True)
        if self._task is not None:
            self._task.cancel()

    def _unsent(self) -> int:
        transport = self._request.transport
        return 0 if transport is None else int(transport.get_write_buffer_size())

    async def write(self, *pieces: bytes) -> None:
        """Send bytes, one at least, as one chunk, and wait while the client is behind.

        Raises:
            ConnectionError: the client is gone.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        size = sum(map(len, pieces))
        write_together(transport, (b"%x\r\n" % size, *pieces, b"\r\n"))
        self._writer.output_size += size
        await self._writer.drain()


async def _copy(cursor: Cursor, outlet: _Outlet, lost: Lost | None, *, lines: bool) -> None:
    skipping = False  # the rest of a line whose beginning is lost
    while (pieces := await cursor.read_pieces(LARGE_READ))[0]:
        missed = cursor.take_missed()
        if not missed and not skipping:
            await outlet.write(*pieces)
            continue
        chunk = b"".join(pieces)
        if missed:
            skipping = lines
            if lost is not None:
                await outlet.write(lost(missed))
        if skipping:
            begin = chunk.find(b"\n") + 1
            skipping = not begin
            chunk = chunk[begin:] if begin else b""
        if chunk:
            await outlet.write(chunk)
