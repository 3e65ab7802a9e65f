"""The composition root: a hub with its adapters, behind an HTTP server."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from .adapters.folder_store import FolderStore
from .adapters.process import ProcessAdapter
from .api import hub as hub_api
from .api import instances, sequences, streams
from .api.answers import HUB, answer_errors
from .api.paths import ExtraSlashes
from .hub import Hub
from .settings import API_BASE, Settings, SettingsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that answers requests."""

    hub: Hub
    url: str  # without the API base

    @property
    def api_url(self) -> str:
        """Where clients send their requests."""
        return self.url + API_BASE


def make_application(hub: Hub) -> web.Application:
    """Return the HTTP application of a hub."""
    application = web.Application(middlewares=[answer_errors], client_max_size=hub.settings.max_body_bytes)
    api = web.Application(client_max_size=hub.settings.max_body_bytes)
    for part in (application, api):
        part[HUB] = hub
    for module in (hub_api, sequences, instances, streams):
        api.add_routes(module.routes)
    api.router.register_resource(ExtraSlashes(api.router))
    application.add_subapp(API_BASE, api)
    return application


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[RunningHub]:
    """Run a hub for as long as the block lasts. At its end Instances are stopped, then killed.

    Raises:
        SettingsError: the address is taken or cannot be used, or another hub has the data directory.
    """
    hub = Hub(settings, FolderStore(settings.data_dir, settings.package_limits), ProcessAdapter())
    listener = _listen(settings)
    try:
        await hub.open()
    except BaseException:
        listener.close()
        raise
    runner = web.AppRunner(
        make_application(hub),
        handler_cancellation=True,  # a reader that goes away is let go at once
        shutdown_timeout=1.0,
        access_log=None,
        keepalive_timeout=75.0,
    )
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield RunningHub(hub, _url(listener))
    finally:
        await asyncio.shield(hub.close())
        await runner.cleanup()


def _listen(settings: Settings) -> socket.socket:
    """Return a listening socket; bound before the store is touched, so that a second hub on a port leaves no trace."""
    try:
        family = socket.getaddrinfo(settings.hostname, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.hostname, settings.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (while attempting to bind")[0]  # what follows repeats the address
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        hint = "; is another hub running? choose another --port" if taken else ""
        raise SettingsError(f"cannot listen on {settings.hostname}:{settings.port}: {reason}{hint}") from None
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
