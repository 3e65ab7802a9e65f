"""What a client of the hub can be told, with the HTTP status that says it.

HubError
├── BadRequest              400  the request is not what the endpoint takes
├── NotFound                404  no such Sequence, Instance, path
├── NotAcceptable           406  the input cannot be taken this way
├── RequestTimeout          408  the body did not arrive in time
├── Conflict                409  it exists already, or it is in use
├── Gone                    410  the stream is over for good
├── PayloadTooLarge         413  more bytes than the hub takes
├── UnsupportedMediaType    415  a content type nobody here reads
├── PackageError            422  the package cannot be used (packages.py and signatures.py have the kinds)
└── Unavailable             503  the hub is shutting down, or its disk is full

Others stand where they arise: StartFailed 400, NoRoom 419 and NoAnswer 504 in hub.py, NotSigned 403 in signatures.py,
ReloadFailed 422 in instances.py, QuarantineFull 507 in quarantine.py.
"""

from typing import ClassVar


class HubError(Exception):
    """A request that is not fulfilled; ``str()`` of it says what, where and what to do."""

    status: ClassVar[int] = 500
    reason: ClassVar[str | None] = None  # the phrase of the status line, where a client reads it


class BadRequest(HubError):
    """The request is not what the endpoint takes."""

    status = 400


class UnparsableContent(BadRequest):
    """The body of a JSON endpoint is not the JSON it takes."""

    reason = "Could not parse content"


class NotFound(HubError):
    """There is no such thing here."""

    status = 404


class NotAcceptable(HubError):
    """The input cannot be taken this way."""

    status = 406


class RequestTimeout(HubError):
    """The body did not arrive in time."""

    status = 408


class Conflict(HubError):
    """It exists already, or it is in use."""

    status = 409


class Gone(HubError):
    """The stream is over for good."""

    status = 410


class PayloadTooLarge(HubError):
    """More bytes than the hub takes."""

    status = 413
    reason = "Payload Too Large"  # said here, for the phrases that Python knows change with its version


class UnsupportedMediaType(HubError):
    """A content type that nobody here reads."""

    status = 415
    reason = "Invalid content-type"


class PackageError(HubError):
    """The package cannot be used."""

    status = 422
    reason = "Unprocessable Entity"


class Unavailable(HubError):
    """The hub cannot do it now: it is shutting down, or its disk is full."""

    status = 503
