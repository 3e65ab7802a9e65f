"""The composition root: a hub with its adapters, behind an HTTP server."""

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web

from .access import Access, tls_context
from .adapters.folder_store import FolderStore
from .adapters.process import ProcessAdapter
from .adapters.runners import Runners
from .adapters.zygotes import Zygotes, is_supported
from .api import events, instances, kept, sequences, streams, topics
from .api import hub as hub_api
from .api.access import cors
from .api.answers import HUB
from .api.chunked import BodyRunner
from .api.door import door
from .api.hub import AUDIT, LOAD, LOG, health_handler, health_path
from .api.paths import ExtraSlashes
from .audit import Audit
from .hub import Hub
from .hub_log import HubLog
from .load import LoadMeter
from .settings import API_BASE, Settings, SettingsError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that answers requests."""

    hub: Hub
    url: str  # without the API base
    health_url: str | None = None  # for load balancers, if the settings ask for it

    @property
    def api_url(self) -> str:
        """Where clients send their requests."""
        return self.url + API_BASE


def make_application(hub: Hub, *, access: Access | None = None, log: HubLog | None = None) -> web.Application:
    """Return the HTTP application of a hub; what is not given is made as the hub's settings say."""
    settings = hub.settings
    access = access or Access.of(settings)
    log = log or HubLog(settings.hub_id)
    load = LoadMeter((settings.data_dir, Path("/")), reserved_bytes=settings.safe_operation_limit)
    audit = Audit(
        settings.hub_id,
        living=lambda: [one.id for one in hub.instances() if not one.is_over],
        heartbeat_interval=settings.heartbeat_interval,
    )
    hub.changed = audit.changed
    application = web.Application(middlewares=[door(access, audit)], client_max_size=settings.max_body_bytes)
    application[HUB] = hub
    application[LOG] = log
    application[AUDIT] = audit
    application[LOAD] = load
    for module in (hub_api, sequences, instances, events, streams, kept, topics):
        # Below the base each by itself: an application in the application is one more look-up for every request.
        application.add_routes([_below_base(route) for route in module.routes])
    application.router.register_resource(ExtraSlashes(application.router, API_BASE))
    if access.origins:  # what there is to say to browsers
        application.on_response_prepare.append(cors(access))

    async def begin(_: web.Application) -> None:
        log.attach()

    async def end(_: web.Application) -> None:
        log.detach()
        audit.close()

    application.on_startup.append(begin)
    application.on_shutdown.append(end)
    return application


def _below_base(route: web.AbstractRouteDef) -> web.RouteDef:
    assert isinstance(route, web.RouteDef)  # noqa: S101 - for the type checker: no module serves files
    return web.route(route.method, API_BASE + route.path, route.handler, **route.kwargs)


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[RunningHub]:
    """Run a hub for as long as the block lasts. At its end Instances are stopped, then killed.

    Raises:
        SettingsError: an address is taken or cannot be used, another hub has the data directory, or a file of tokens,
            of TLS or of trusted keys cannot be used.
    """
    access = Access.of(settings)
    tls = None
    if settings.tls_certificate is not None and settings.tls_key is not None:
        tls = tls_context(settings.tls_certificate, settings.tls_key)
    log = HubLog(settings.hub_id)
    trusted = None
    if settings.require_signature:
        from .signatures import TrustedKeys  # noqa: PLC0415 - it loads the packer; most hubs need neither

        trusted = TrustedKeys.read(settings.trusted_keys_file)
    zygotes = Zygotes(settings.reserved_runners) if settings.warm_runners and is_supported() else None
    adapter = ProcessAdapter(Runners.of(settings), zygotes)
    hub = Hub(
        settings,
        FolderStore(
            settings.data_dir,
            settings.package_limits,
            settings.existing,
            kept_versions=settings.kept_versions,
            signer_of=None if trusted is None else trusted.signer_of,
        ),
        adapter,
        None if trusted is None else trusted.refuse_untrusted,
    )
    async with AsyncExitStack() as stack:
        stack.callback(log.detach)
        log.attach()
        listener = stack.enter_context(_listen(settings.hostname, settings.port, option="--port"))
        monitoring = None
        if settings.monitoring_port is not None:
            monitoring = stack.enter_context(
                _listen(settings.monitoring_host, settings.monitoring_port, option="--healtz-port")
            )
        stack.push_async_callback(adapter.close)
        await hub.open()
        adapter.warm()
        try:
            runner = BodyRunner(
                make_application(hub, access=access, log=log),
                handler_cancellation=True,  # a reader that goes away is let go at once
                shutdown_timeout=1.0,
                access_log=None,
                keepalive_timeout=75.0,
            )
            stack.push_async_callback(runner.cleanup)
            await runner.setup()
            hub.serve_stream = runner.server
            await web.SockSite(runner, listener, ssl_context=tls).start()
            running = RunningHub(hub, _url(listener, "http" if tls is None else "https"))
            logger.info(
                "listening at %s%s", running.api_url, " for who shows a token" if access.tokens else ""
            )
            if monitoring is not None:
                running = replace(
                    running, health_url=await stack.enter_async_context(_health(hub, monitoring))
                )
                logger.info("load balancers find the health at %s", running.health_url)
            yield running
        finally:
            await asyncio.shield(hub.close())


@asynccontextmanager
async def _health(hub: Hub, listener: socket.socket) -> AsyncIterator[str]:
    """Answer load balancers for as long as the block lasts; give the URL."""
    path = health_path(hub.settings.monitoring_path)
    server = web.ServerRunner(web.Server(health_handler(path, hub.refuse_when_unable), access_log=None))
    try:
        await server.setup()
        await web.SockSite(server, listener).start()
        yield _url(listener, "http") + path
    finally:
        await server.cleanup()


def _listen(hostname: str, port: int, *, option: str) -> socket.socket:
    """Return a listening socket; bound before the store is touched, so that a second hub on a port leaves no trace."""
    try:
        family = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((hostname, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (while attempting to bind")[0]  # what follows repeats the address
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        hint = f"; is another hub running? choose another {option}" if taken else ""
        raise SettingsError(f"cannot listen on {hostname}:{port}: {reason}{hint}") from None
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
