"""Bytes in, gzip out: a binary transform that logs what it saved."""

import hashlib
import zlib
from collections.abc import AsyncIterable, AsyncIterator

from sequence_sdk import Context, sequence

GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's header and checksum


@sequence(takes="application/octet-stream", gives="application/octet-stream")
async def gzipped(context: Context, chunks: AsyncIterable[bytes], level: int = 6) -> AsyncIterator[bytes]:
    """Yield the input as one gzip member, and log its size and the SHA-256 of what came in.

    Shape: chunks of any size; nothing of the input is kept but what the compressor holds.
    """
    compressor = zlib.compressobj(level, wbits=GZIP)
    digest = hashlib.sha256()
    taken = given = 0
    async for chunk in chunks:
        taken += len(chunk)
        digest.update(chunk)
        if packed := compressor.compress(chunk):
            given += len(packed)
            yield packed
    packed = compressor.flush()
    given += len(packed)
    yield packed
    context.logger.info("%d bytes in, %d out, sha256 %s", taken, given, digest.hexdigest())
