"""Paths with a slash too many, which some clients send: ``/api/v1//sequences`` means ``/api/v1/sequences``."""

import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from yarl import URL


class ExtraSlashes(web.AbstractResource):
    """Looks up what a router does not find once more, with each run of slashes as one.

    The request stays as it came; only the look-up sees another path.
    """

    def __init__(self, router: web.UrlDispatcher, prefix: str) -> None:
        """Make it for the paths of a router below a prefix."""
        super().__init__()
        self._router = router
        self._prefix = prefix

    @property
    def canonical(self) -> str:
        """The path below which this is asked."""
        return self._prefix

    def add_prefix(self, prefix: str) -> None:
        """Take the place that the router is put at."""
        self._prefix = prefix + self._prefix

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """Return the endpoint of the path without the extra slashes, or the methods it has."""
        path = request.rel_url.raw_path
        if "//" not in path:
            return None, set()
        url = request.rel_url.with_path(re.sub("/{2,}", "/", path), encoded=True)
        found = await self._router.resolve(request.clone(rel_url=url))
        match found.http_exception:
            case None:
                return found, set()
            case web.HTTPMethodNotAllowed() as error:
                return None, set(error.allowed_methods)
            case _:
                return None, set()

    def url_for(self, **_: str) -> URL:
        """Return where this is asked."""
        return URL(self.canonical)

    def get_info(self) -> Any:
        """Return what is shown of it."""
        return {"prefix": self.canonical}

    def raw_match(self, path: str) -> bool:
        """Say that no route of that path may be added here."""
        return False

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
