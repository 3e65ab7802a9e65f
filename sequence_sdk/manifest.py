"""The manifest of a package: its ``package.json``, checked field by field.

ManifestError
├── ManifestUnreadable    the bytes are no JSON object
└── ManifestFieldError    one field is not what it must be
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn, Self

MANIFEST_NAME: Final = "package.json"
MAX_MANIFEST_BYTES: Final = 1024 * 1024  # a manifest is read whole, by a hub for anybody who uploads

_BOM: Final = b"\xef\xbb\xbf"
_PORT: Final = re.compile(r"[0-9]{3,5}/(?:tcp|udp)")
_MAX_DEPTH: Final = 64  # far below the depth at which JSON encoders give up
_INTEGERS: Final = (-(2**63), 2**64 - 1)  # what every JSON encoder we use can write
_MAX_SHOWN: Final = 60  # characters of a wrong value that a message repeats


class ManifestError(Exception):
    """A ``package.json`` that cannot be used; ``problem`` is the sentence without the name of the file."""

    @property
    def problem(self) -> str:
        """The sentence, without the name of the file."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{MANIFEST_NAME}: {self.problem}"


class ManifestUnreadable(ManifestError):
    """The bytes are not one JSON object in UTF-8."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def problem(self) -> str:
        """The sentence, without the name of the file."""
        return self.reason


class ManifestFieldError(ManifestError):
    """One field has a value that it cannot have; ``found`` is how a message shows that value."""

    def __init__(self, key: str, found: str, expected: str, hint: str = "") -> None:
        super().__init__(key, found, expected, hint)
        self.key = key
        self.found = found
        self.expected = expected
        self.hint = hint

    @property
    def problem(self) -> str:
        """The sentence, without the name of the file."""
        end = f"; {self.hint}" if self.hint else ""
        return f"{_show(self.key)} must be {self.expected}, but it is {self.found}{end}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package says about itself. A field that the manifest leaves out, or sets to null, is empty.

    ``main`` is the author's file: ``scramjet.main`` where a package has an entry for the original Python runner too, which
    ``original_entry`` names then. Both are relative to the root of the package, with ``/`` between their parts and no ``.``
    or ``..`` in them.
    """

    main: str
    name: str = ""
    version: str = ""
    engines: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    author: str = ""
    keywords: tuple[str, ...] = ()
    repository: str | Mapping[str, str] = ""
    args: tuple[Any, ...] = ()
    ports: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    original_entry: str = ""

    @classmethod
    def from_mapping(cls, obj: object) -> Self:
        """Return the manifest that a decoded ``package.json`` describes; fields nobody knows are left aside.

        Raises:
            ManifestError: ``obj`` is no object, or a field of it has a wrong value.
        """
        if not isinstance(obj, Mapping):
            raise ManifestUnreadable(f"it must hold one JSON object, but it holds {_show(obj)}")
        main = _main(obj)
        own_main = _own_main(obj)
        return cls(
            main=own_main or main,
            name=_text(obj, "name"),
            version=_text(obj, "version"),
            engines=_engines(obj),
            description=_text(obj, "description"),
            author=_author(obj),
            keywords=tuple(_texts(obj, "keywords")),
            repository=_repository(obj),
            args=_args(obj),
            ports=_ports(obj),
            schema=_schema(obj),
            original_entry=main if own_main else "",
        )

    @property
    def language(self) -> str:
        """The language of the Sequence: by its engine, else by the suffix of ``main``, else ``unknown``."""
        if "python3" in self.engines:
            return "py"
        if "node" in self.engines:
            return "js"
        return PurePosixPath(self.main).suffix[1:] or "unknown"

    def to_config(self) -> dict[str, Any]:
        """Return the part of a Sequence's ``config`` that comes from its manifest, without empty fields.

        Shape: JSON values only, all of them strings that UTF-8 and numbers that 64 bits can hold.
        """
        config: dict[str, Any] = {
            "entrypointPath": self.main,
            "language": self.language,
            "name": self.name,
            "version": self.version,
            "engines": dict(self.engines),
            "description": self.description,
            "author": self.author,
            "keywords": list(self.keywords),
            "args": list(self.args),
            "repository": self.repository if isinstance(self.repository, str) else dict(self.repository),
            "config": {"ports": list(self.ports)} if self.ports else {},
            "schema": dict(self.schema),
        }
        return {key: value for key, value in config.items() if value}


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest that the bytes of a ``package.json`` hold.

    Raises:
        ManifestError: there are too many bytes, they are not a JSON object in UTF-8, or a field has a wrong value.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestUnreadable(f"it may have {MAX_MANIFEST_BYTES} bytes at most, but it has more")
    try:
        text = raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise ManifestUnreadable(
            f"it must be UTF-8, but byte {error.start} is not; save it as UTF-8"
        ) from error
    if text.startswith("\ufeff"):
        raise ManifestUnreadable("it starts with more than one byte order mark; save it without any")
    try:
        obj = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ManifestUnreadable(f"it must be JSON, but {place} is not: {error.msg}") from error
    except ValueError as error:
        raise ManifestUnreadable(f"it must be JSON, but it is not: {error}") from error
    except RecursionError as error:
        raise ManifestUnreadable("its lists and objects are nested too deep") from error
    return Manifest.from_mapping(obj)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _main(obj: Mapping[str, Any]) -> str:
    if obj.get("main") is None:
        found = "null" if "main" in obj else "missing"
        hint = 'name the file that starts the Sequence, such as "main": "main.py"'
        raise ManifestFieldError("main", found, "a string", hint)
    return _path(_text(obj, "main"), "main")


def _own_main(obj: Mapping[str, Any]) -> str:
    """Return the author's file of a package whose ``main`` is the entry for the original Python runner; empty in others."""
    scramjet = _object(obj, "scramjet")
    if scramjet.get("main") is None:
        return ""
    return _path(_text(scramjet, "main", "scramjet.main"), "scramjet.main")


def _path(text: str, key: str) -> str:
    if not text:
        raise ManifestFieldError(key, _show(text), "the path of a file")
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text:
        raise ManifestFieldError(key, _show(text), "the path of a file inside the package, without ..")
    return str(path)


def _text(obj: Mapping[str, Any], name: str, key: str | None = None) -> str:
    value = obj.get(name)
    return "" if value is None else _checked_text(value, key or name)


def _checked_text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ManifestFieldError(key, _show(value), "a string")
    if not _is_utf8(value):
        raise ManifestFieldError(key, _show(value), "text without halves of surrogate pairs")
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(obj: Mapping[str, Any], name: str, key: str | None = None) -> Mapping[str, Any]:
    value = obj.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ManifestFieldError(key or name, _show(value), "an object")
    return value


def _list(obj: Mapping[str, Any], name: str, key: str | None = None) -> list[Any]:
    value = obj.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestFieldError(key or name, _show(value), "a list")
    return value


def _texts(obj: Mapping[str, Any], name: str, key: str | None = None) -> list[str]:
    key = key or name
    return [_checked_text(value, f"{key}[{at}]") for at, value in enumerate(_list(obj, name, key))]


def _engines(obj: Mapping[str, Any]) -> dict[str, str]:
    engines = _object(obj, "engines")
    return {
        _checked_text(engine, "engines"): _checked_text(versions, f"engines.{engine}")
        for engine, versions in engines.items()
    }


def _author(obj: Mapping[str, Any]) -> str:
    """Return the author in the string form that npm knows; its object form is as common in the wild."""
    author = obj.get("author")
    if not isinstance(author, Mapping):
        if author is None or isinstance(author, str):
            return _text(obj, "author")
        raise ManifestFieldError("author", _show(author), "a string or an object with name, email and url")
    name = _text(author, "name", "author.name")
    if not name:
        raise ManifestFieldError("author.name", _found(author, "name"), "the name of the author")
    email = _text(author, "email", "author.email")
    url = _text(author, "url", "author.url")
    return name + (f" <{email}>" if email else "") + (f" ({url})" if url else "")


def _repository(obj: Mapping[str, Any]) -> str | dict[str, str]:
    repository = obj.get("repository")
    if not isinstance(repository, Mapping):
        if repository is None or isinstance(repository, str):
            return _text(obj, "repository")
        expected = "a string or an object with type, url and directory"
        raise ManifestFieldError("repository", _show(repository), expected)
    parts = {part: _text(repository, part, f"repository.{part}") for part in ("type", "url", "directory")}
    for part in ("type", "url"):
        if repository.get(part) is None:
            raise ManifestFieldError(f"repository.{part}", _found(repository, part), "a string")
    return {part: text for part, text in parts.items() if repository.get(part) is not None}


def _args(obj: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what documents the arguments: any JSON, as long as a hub can write it into an answer again."""
    args = _list(obj, "args")
    _check_json([(f"args[{at}]", value) for at, value in enumerate(args)])
    return tuple(args)


def _schema(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what documents input, output, arguments and configuration: JSON Schemas, which nobody here looks into."""
    schema = _object(_object(obj, "scramjet"), "schema", "scramjet.schema")
    for name in schema:
        _checked_text(name, "scramjet.schema")
    _check_json([(f"scramjet.schema.{name}", value) for name, value in schema.items()])
    return schema


def _check_json(values: list[tuple[str, Any]]) -> None:
    """Check that values are JSON that a hub can write into an answer again; each has the key that an error names."""
    # The key stays that of the value: keys that grew with the depth could fill the memory of a hub.
    unchecked: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in values]
    while unchecked:
        key, value, depth = unchecked.pop()
        if depth > _MAX_DEPTH:
            raise ManifestFieldError(key, _show(value), f"nested at most {_MAX_DEPTH} levels deep")
        match value:
            case None | bool():
                pass
            case str():
                _checked_text(value, key)
            case int():
                if not _fits_64_bits(value):
                    raise ManifestFieldError(key, _show(value), "a number of 64 bits")
            case float():
                if not math.isfinite(value):
                    raise ManifestFieldError(key, _show(value), "a finite number")
            case list():
                unchecked += [(key, item, depth + 1) for item in value]
            case dict():
                for name in value:
                    _checked_text(name, key)
                unchecked += [(key, item, depth + 1) for item in value.values()]
            case _:
                raise ManifestFieldError(key, _show(value), "a JSON value")


def _ports(obj: Mapping[str, Any]) -> tuple[str, ...]:
    config = _object(_object(obj, "scramjet"), "config", "scramjet.config")
    ports = _texts(config, "ports", "scramjet.config.ports")
    for at, port in enumerate(ports):
        if not _PORT.fullmatch(port):
            expected = 'a port and its protocol, such as "8080/tcp" or "5353/udp"'
            raise ManifestFieldError(f"scramjet.config.ports[{at}]", _show(port), expected)
    return tuple(ports)


def _fits_64_bits(number: int) -> bool:
    return _INTEGERS[0] <= number <= _INTEGERS[1]


def _found(obj: Mapping[str, Any], name: str) -> str:
    return _show(obj[name]) if name in obj else "missing"


def _show(value: object) -> str:
    """Return how a message shows a value: short, on one line, and printable whatever the value is."""
    match value:
        case Mapping():
            return "an object"
        case list():
            return "a list"
        case int() if not isinstance(value, bool) and not _fits_64_bits(value):
            return "a number of more than 64 bits"
        case str():
            short = value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "…"
            return json.dumps(short, ensure_ascii=False).encode(errors="backslashreplace").decode()
        case None | bool() | int() | float():
            return json.dumps(value)
        case _:
            return f"a value of type {type(value).__name__}"
