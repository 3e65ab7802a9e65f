"""Bodies in chunks, taken out of their frames here and not by aiohttp's parser, which copies each byte twice.

aiohttp's parser still reads every head, and the end of every body, and whatever of its frames is not plain: it is
alone in judging what a request is. Only whole chunks that it would not say anything about never come to it.
"""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeAlias

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from hub_lite.windows import LARGE_READ

_KEPT_HEAP = 4 * 1024 * 1024  # bytes; more than the pieces of a stream that are on their way
BULK = 64 * 1024  # bytes in one read, from which on a body is worth a large buffer

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_SIZE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,15}\r?")
_LINE = 17  # bytes, the longest line that may be `_SIZE`
_CRLF = b"\r\n"

Bytes: TypeAlias = bytes | memoryview


class ChunkedDecoder:
    """Takes chunks out of their frames, as long as the frames are plain: a size in hexadecimal, and nothing else.

    It stops at the line of the last chunk, of size 0, and at a line that has an extension, is very long or wrong.

    Attributes:
        stopped: such a line begins at ``position``, or there the end of a chunk is missing; nothing more is taken.
        position: how much of what was fed last is used up.
        held: of a line that begins at ``position``, the part that was fed before.
        fault: what is wrong, if a chunk does not end where it said it would.
    """

    __slots__ = ("_left", "fault", "held", "position", "stopped")

    def __init__(self) -> None:
        self._left = 0  # bytes of the chunk that are to come, with the line end behind them
        self.fault = ""
        self.held = b""
        self.position = 0
        self.stopped = False

    def feed(self, data: Bytes) -> list[tuple[bytes, bool]]:
        """Return what is in it of the body: the bytes up to the last end of a chunk, and those behind it.

        Shape: two pieces at most, each with whether a chunk ends with it. The first is empty if it is but an end.
        """
        parts: list[Bytes] = []
        whole = -1  # parts up to the last end of a chunk
        self.position = 0
        end = len(data)
        while self.position < end and not self.stopped:
            if not self._left:
                self._take_size(data)
                continue
            position = self.position
            if self._left > len(_CRLF):
                part = data[position : min(end, position + self._left - len(_CRLF))]
                parts.append(part)
                self._left -= len(part)
                self.position = position = position + len(part)
            if self._left <= len(_CRLF):
                line_end = bytes(data[position : position + self._left])
                if not _CRLF.startswith(line_end, len(_CRLF) - self._left):
                    self.fault = f"{line_end!r} stands where a chunk should end"
                    self.stopped = True
                    break
                self._left -= len(line_end)
                self.position += len(line_end)
                if not self._left:
                    whole = len(parts)
        if whole < 0:
            return [(b"".join(parts), False)] if parts else []
        pieces = [(b"".join(parts[:whole]), True)]
        if len(parts) > whole:
            pieces.append((b"".join(parts[whole:]), False))
        return pieces

    def _take_size(self, data: Bytes) -> None:
        """Read the line of a chunk's size, or as much as there is."""
        held = self.held
        line: Bytes = data
        at = self.position
        if held:
            line = held + data[at : at + _LINE]
            at = 0
        if (found := _SIZE.match(line, at)) and (size := int(found[1], 16)):
            self.held = b""
            self._left = size + len(_CRLF)
            self.position += found.end() - at - len(held)
        elif found is None and len(line) - at < _LINE and _SIZE_BEGUN.fullmatch(line, at):
            self.held = bytes(line[at:])
            self.position = len(data)
        else:
            self.stopped = True


class BodyHandler(RequestHandler):
    """aiohttp's protocol of a connection, with chunks of bodies taken from in front of its parser.

    A read that begins with the head of a request is fed to the parser in two parts, the head alone and what follows,
    which makes no difference to it. If it says then that it has found a request in chunks and has seen no chunk of
    it, it stands at the beginning of the body: no byte that can end a head can stand where a chunk begins. So
    nothing is known of a request here but what the parser said, and the two cannot disagree about where it ends.
    """

    __slots__ = ("_answered", "_bulky", "_decoder", "_payload")

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **kwargs: object) -> None:
        super().__init__(manager, loop=loop, **kwargs)  # type: ignore[arg-type] # aiohttp's own, as it gives them
        self._decoder: ChunkedDecoder | None = None  # of the body that is coming
        self._payload: StreamReader | None = None  # where that body goes
        self._answered = False  # the request whose body it is was answered before all of it came
        self._bulky = False  # the transport reads into the large buffer

    def data_received(self, data: bytes) -> None:
        """Take bytes, cut anywhere."""
        if self._decoder is not None:
            self._take(data)
            if len(data) >= BULK:
                self._read_in_bulk()
        elif self._payload is not None:
            self._hand_over(data)
        elif (
            data.startswith(b"POST ")
            and not data.endswith(b"\r\n0\r\n\r\n")  # a small body that has come whole costs the parser less
            and (end := data.find(b"\r\n\r\n") + 4) > 3
            and data.find(b"hunked", 0, end) > 0
        ):  # a first look, which may be wrong: what is missed here goes its usual way
            before = len(self._messages)
            super().data_received(data[:end])
            rest = data[end:]
            if len(self._messages) == before + 1 and self._begins_body():
                if rest:
                    self.data_received(rest)
            elif rest:
                super().data_received(rest)
        else:
            super().data_received(data)

    def _begins_body(self) -> bool:
        message, payload = self._messages[-1]
        if (
            isinstance(message, _ErrInfo)
            or not message.chunked
            or message.upgrade
            or message.compression  # then the parser has something to do for each piece
            or payload.is_eof()
            or payload._http_chunk_splits is not None
            or payload.total_bytes
        ):
            return False
        self._decoder, self._payload = ChunkedDecoder(), payload
        self._answered = False
        payload.begin_http_chunk_receiving()
        return True

    def _take(self, data: Bytes) -> None:
        """Hand on what there is of a body."""
        decoder, payload = self._decoder, self._payload
        if decoder is None or payload is None or self._close or self._force_close:
            return
        for piece, ends in decoder.feed(data):
            payload.feed_data(piece)
            if ends:
                payload.end_http_chunk_receiving()
        if decoder.fault:
            self._refuse(payload, BadHttpMessage(decoder.fault))
        elif decoder.stopped:
            self._decoder = None
            if self._bulky:
                self._bulky = False
                if self.transport is not None:
                    self.transport.set_protocol(self)
            self._hand_over(decoder.held + data[decoder.position :])

    def _hand_over(self, data: bytes) -> None:
        """Let the parser read what is left of a body, and what follows it."""
        super().data_received(data)
        payload = self._payload
        if payload is None or payload.is_eof():
            self._payload = None
        elif self._messages and isinstance(refused := self._messages[-1][0], _ErrInfo):
            self._messages.pop()
            self._refuse(payload, refused.exc)

    def _refuse(self, payload: StreamReader, error: BaseException) -> None:
        """End a request whose body is wrong, and the connection with it: nobody knows where the next one begins."""
        self._decoder = self._payload = None
        text = getattr(error, "message", str(error))
        if self._messages and self._messages[-1][1] is payload:  # nobody has begun to answer it
            self._messages[-1] = (_ErrInfo(400, error, text), EMPTY_PAYLOAD)
        elif not self._answered:
            payload.set_exception(web.RequestPayloadError(text), error)
        self._lingering_time = 0.0  # there is nothing to wait for
        self._close = True

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Finish an answer, whose handler is over."""
        if request.content is self._payload:
            self._answered = True
        return super().finish_response(request, resp, start_time)

    def pause_reading(self) -> None:
        """Read no more for a while. The parser has no part in it: it would stop at the next body, for nothing."""
        if self._decoder is None:
            super().pause_reading()
        else:
            self._reading_paused = True
            self._pause_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on."""
        if self._decoder is None or self._reading_paused:
            super().resume_reading(resume_parser and self._decoder is None)

    def _read_in_bulk(self) -> None:
        """Read what is left of a body into the large buffer, where the transport is a socket and nothing else."""
        transport = self.transport
        if (
            self._decoder is not None
            and not self._bulky
            and transport is not None
            and transport.get_extra_info("socket") is not None
            and transport.get_extra_info("sslcontext") is None
        ):
            self._bulky = True
            transport.set_protocol(_Bulk(self))

    def bulk_received(self, data: memoryview) -> None:
        """Take bytes of a body out of a buffer that will be used again."""
        self._take(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take the end of the connection."""
        self._decoder = self._payload = None
        super().connection_lost(exc)


class _Bulk(asyncio.BufferedProtocol):
    """Reads a body for a `BodyHandler` into one large buffer, which is used up before anybody else reads."""

    _buffer: memoryview | None = None  # of all: it is made when the first needs it

    def __init__(self, handler: BodyHandler) -> None:
        self._handler = handler

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        if _Bulk._buffer is None:
            _Bulk._buffer = memoryview(bytearray(LARGE_READ))
            # glibc gives the top of its heap back whenever it has twice the largest block that was ever freed, and
            # asks for it again for the next piece: two page faults for each 8 KiB that pass.
            bytes(_KEPT_HEAP)
        return _Bulk._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._handler.bulk_received(self.get_buffer(0)[:nbytes])

    def eof_received(self) -> None:
        """Take the end of what the client sends."""
        self._handler.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._handler.connection_lost(exc)

    def pause_writing(self) -> None:
        """Write no more for a while."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """Write on."""
        self._handler.resume_writing()


class BodyServer(web.Server):
    """aiohttp's server, with a `BodyHandler` for each connection."""

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return BodyHandler(self, loop=self._loop, **self._kwargs)


class BodyRunner(web.AppRunner):
    """aiohttp's runner of an application, with a `BodyServer`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return BodyServer(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
