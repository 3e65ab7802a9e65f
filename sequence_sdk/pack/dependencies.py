"""The dependencies of a Sequence: what it declares, brought for a target, as files that go into the package."""

import csv
import io
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from .errors import BadDependencies, DependenciesNotFound, FileUnreadable, NoInstaller, TargetExcluded
from .files import PackedFile
from .installers import Installer, Uv, find_installer, last_words, meaning, run
from .project import PROJECT_NAME, read, read_script
from .source import Source
from .target import HERE, Target, admits
from .wheels import FOLDER, Distribution, distributions_in, record_rows

UV_LOCK: Final = "uv.lock"
PYLOCK: Final = "pylock.toml"
REQUIREMENTS: Final = "requirements.txt"
OURS: Final = ("hub-lite", "sequence-sdk", "scramjet-framework-py")
"""What every hub brings itself: in a package it would stand before the hub's own."""

_OTHER_LOCKS: Final = ("poetry.lock", "pdm.lock", "Pipfile.lock")
_INSTALLERS_OWN: Final = frozenset(
    {"INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json", "provenance_url.json"}
)
_LEFTOVERS: Final = frozenset({".lock", ".gitignore", "CACHEDIR.TAG"})
_PROGRAMS: Final = ("bin", "Scripts")


@dataclass(frozen=True, slots=True)
class Resolved:
    """The dependencies for a package: their files, named ``__pypackages__/…``, and their metadata.

    ``notes`` are sentences that an author should read, ``tool`` is what brought them, empty if nothing was run. ``folder`` is
    where they can be imported from until they are given back.
    """

    entries: tuple[PackedFile, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    notes: tuple[str, ...] = ()
    tool: str = ""
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """What says which dependencies there are: a file, and the requirements in it, empty for a lock file.

    ``is_changed`` tells that an installer cannot read the file itself, because some of its lines are left out or different.
    """

    path: Path
    requirements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_changed: bool = False

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def is_lock(self) -> bool:
        """Whether the file names the very versions."""
        return self.file in {UV_LOCK, PYLOCK}

    @property
    def names_any(self) -> bool:
        """Whether there is anything to bring."""
        return bool(self.requirements) or self.is_lock


@contextmanager
def resolved(
    source: Source,
    target: Target,
    *,
    tell: Callable[[str], None] | None = None,
    installer: Installer | None = None,
) -> Iterator[Resolved]:
    """Give the dependencies that a Sequence declares; their files are there until the block ends.

    Nothing is run if it declares none, if its ``__pypackages__`` is there already, or if it is not in Python. ``tell`` gets a
    sentence before something is run, ``installer`` is uv or else pip without it.

    Raises:
        TargetExcluded: the manifest says that the Sequence is not for the Python of the target.
        BadDependencies: what declares them cannot be used.
        NoInstaller: there is neither uv nor pip.
        DependenciesNotFound: the installer does not bring them.
        FileUnreadable: a file cannot be read.
    """
    is_python = source.manifest.language == "py"
    if is_python and target.python is not None:
        check_python(source, target)
    if not is_python or _is_vendored(source.selection.entries):
        yield Resolved()
        return
    declared = declared_in(source)
    if declared is None or not declared.names_any:
        yield Resolved(notes=declared.notes if declared is not None else ())
        return
    check_python(source, target)
    installer = find_installer() if installer is None else installer
    if installer is None:
        raise NoInstaller(declared.path)
    if tell is not None:
        tell(f"installing what {declared.file} names with {installer.name}, for {target}")
    with tempfile.TemporaryDirectory(prefix="scramjet-pack-") as folder:
        work = _Work(source.directory.absolute(), declared, target, installer, Path(folder))
        work.install()
        entries, notes = normalised(work.into, declared)
        notes = (*declared.notes, *work.notes, *notes)
        yield Resolved(entries, distributions_in(entries), notes, installer.name, work.into)


class KeptDependencies:
    """Brings the dependencies of one Sequence again and again, and anew only when what declares them has changed.

    To be given to ``pack``; ``close`` it at the end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._stack = ExitStack()
        self._of: tuple[Declared | None, bytes] | None = None
        self._kept = Resolved()

    @contextmanager
    def __call__(self, source: Source) -> Iterator[Resolved]:
        """Give the dependencies, which stay until the next change.

        Raises:
            PackError: as ``resolved`` does.
        """
        declared = not_brought(source)
        wanted = (declared, b"" if declared is None else read(declared.path))
        if wanted != self._of:
            self.close()
            self._kept = self._stack.enter_context(resolved(source, HERE, tell=self._tell))
            self._of = wanted
        yield self._kept

    def close(self) -> None:
        """Give everything back; safe to call twice."""
        self._of = None
        self._stack.close()


def check_python(source: Source, target: Target) -> None:
    """Check that the manifest of a Sequence admits the Python of a target.

    Raises:
        TargetExcluded: it does not.
    """
    wanted = source.manifest.engines.get("python3", "")
    if not admits(wanted, target.version):
        raise TargetExcluded(source.told_by, wanted, target.version, is_named=target.python is not None)


def not_brought(source: Source) -> Declared | None:
    """Return what declares dependencies that are not in the package, None if nothing does.

    Raises:
        BadDependencies: it cannot be used.
        FileUnreadable: it cannot be read.
    """
    if source.manifest.language != "py" or _is_vendored(source.selection.entries):
        return None
    declared = declared_in(source)
    return declared if declared is not None and declared.names_any else None


def _is_vendored(entries: Iterable[PackedFile]) -> bool:
    return any(FOLDER in entry.name.split("/")[:-1] for entry in entries)


# --- what is declared ---------------------------------------------------------------------------------------------------


def declared_in(source: Source) -> Declared | None:
    """Return what says which dependencies a Sequence has, None if nothing does.

    The first that is there counts: ``uv.lock``, ``pylock.toml``, ``requirements.txt``, the project's dependencies in
    ``pyproject.toml``; of a single file only the block of script metadata in it.

    Raises:
        BadDependencies: it cannot be used.
        FileUnreadable: it cannot be read.
    """
    if source.is_single:
        path = source.directory / source.manifest.main
        return _of_texts(path, read_script(path, read(path)).requirements)
    folder = source.directory
    project = folder / PROJECT_NAME
    if _is_file(folder / UV_LOCK) and _is_file(project):
        return _of_lock(folder / UV_LOCK, "package")
    if _is_file(folder / PYLOCK):
        return _of_lock(folder / PYLOCK, "packages")
    others = [name for name in _OTHER_LOCKS if _is_file(folder / name)]
    notes = tuple(
        f"{name} is not read; for the versions in it export it to {REQUIREMENTS}" for name in others
    )
    if _is_file(folder / REQUIREMENTS):
        return _of_requirements(folder / REQUIREMENTS)
    if _is_file(project):
        return _of_project(project, notes)
    return Declared(folder / others[0], notes=notes) if others else None


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - never raises


def _text(path: Path) -> str:
    try:
        return read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDependencies(path, "it must be UTF-8, but it is not") from error


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadDependencies(path, f"it must be TOML, but it is not: {error}") from error


def _of_lock(path: Path, key: str) -> Declared | None:
    packages = _tables(path).get(key, [])
    if not isinstance(packages, list) or not all(isinstance(one, dict) for one in packages):
        raise BadDependencies(path, f"{key} must be a list of tables; make the file again")
    names = [canonicalize_name(str(one.get("name", ""))) for one in packages]
    return Declared(path, notes=_left_out(path.name, names)) if packages else None


def _of_project(path: Path, notes: tuple[str, ...]) -> Declared:
    project = _tables(path).get("project", {})
    texts = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadDependencies(path, "project.dependencies must be a list of texts")
    dynamic = project.get("dynamic", [])
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        notes = (*notes, f"{path.name} calls its dependencies dynamic; name them in {REQUIREMENTS}")
    return _of_texts(path, texts, notes)


def _of_texts(path: Path, texts: Iterable[str], notes: tuple[str, ...] = ()) -> Declared:
    kept: list[str] = []
    ours: list[str] = []
    for text in texts:
        try:
            name = canonicalize_name(Requirement(text).name)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise BadDependencies(
                path, f"{text!r} in its dependencies is no requirement: {reason}"
            ) from error
        (ours if name in OURS else kept).append(text)
    names = [canonicalize_name(Requirement(text).name) for text in ours]
    return Declared(path, tuple(kept), (*notes, *_left_out(path.name, names)))


_COMMENT: Final = re.compile(r"(?:^|\s)#.*$")
_WHOLE_COMMENT: Final = re.compile(r"^[ \t]*#.*$", re.MULTILINE)
_PLACE: Final = re.compile(r"(-r|-c|-f|--requirement|--constraint|--find-links)(?:\s+|=|(?<=-\w))(\S.*)")
_EDITABLE: Final = re.compile(r"(?:-e\s*|--editable(?:\s+|=))")
_NAME: Final = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:$|[\[<>=!~;@(\s])")
_NAMES_MORE: Final = re.compile(r"-r|--requirement")


def _of_requirements(path: Path) -> Declared:
    """Return the lines of a ``requirements.txt``, comments gone and continued lines joined; none if it only has options."""
    lines, ours = [], []
    is_changed = False
    text = _WHOLE_COMMENT.sub(
        "", _text(path)
    )  # which the next line continues for nobody, whatever it ends with
    for raw in re.sub(r"\\\r?\n", "", text).splitlines():
        line = _COMMENT.sub("", raw).strip()
        if not line:
            continue
        plain = _EDITABLE.sub("", line, count=1) if _EDITABLE.match(line) else line
        is_changed |= plain != line
        found = _NAME.match(plain)
        name = canonicalize_name(found[1]) if found else ""
        if name in OURS:
            ours.append(name)
            is_changed = True
        else:
            lines.append(_absolute(plain, path.parent.absolute()))
    if all(line.startswith("-") and not _NAMES_MORE.match(line) for line in lines):
        lines = []
    return Declared(path, tuple(lines), _left_out(path.name, ours), is_changed=is_changed)


def _absolute(line: str, folder: Path) -> str:
    """Return a line with the file that it names as an absolute path, so that it can stand in another folder."""
    place = _PLACE.fullmatch(line)
    if place and os.path.exists(folder / place[2]):  # noqa: PTH110 - never raises
        return f"{place[1]} {folder / place[2]}"
    return line


def _left_out(file: str, names: Iterable[str]) -> tuple[str, ...]:
    ours = sorted(set(names).intersection(OURS))
    return tuple(f"{name}, which {file} names, is left out: every hub brings it" for name in ours)


# --- bringing it --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    source: Path
    declared: Declared
    target: Target
    installer: Installer
    folder: Path
    notes: list[str] = field(default_factory=list)

    @property
    def into(self) -> Path:
        return self.folder / FOLDER

    def install(self) -> None:
        self.into.mkdir()
        arguments = self._arguments()
        if not (self.target.is_here or self.installer.reads_markers_for_target):
            self.notes.append(
                f"{self.installer.name} takes only what this Python takes too, and reads markers such as python_version < '3.12' "
                f"for it, not for {self.target}; uv goes by the target alone"
            )
        self._run(self.installer.command(arguments, self.into, self.target))

    def _arguments(self) -> list[str]:
        declared = self.declared
        if declared.file == UV_LOCK:
            return ["-r", str(self._exported())]
        if declared.file == PYLOCK:
            if not self.installer.reads_pylock:
                raise BadDependencies(
                    declared.path, "this pip does not read it; install uv, or pip 26.1 or newer"
                )
            return ["-r", PYLOCK]
        if declared.file == REQUIREMENTS:
            if not declared.is_changed:
                return ["-r", REQUIREMENTS]
            copy = self.folder / REQUIREMENTS
            copy.write_text("".join(f"{line}\n" for line in declared.requirements), "utf-8")
            return ["-r", str(copy)]
        return ["--", *declared.requirements]

    def _exported(self) -> Path:
        if not isinstance(self.installer, Uv):
            raise BadDependencies(
                self.declared.path, f"{self.installer.name} does not read it; install uv, which does"
            )
        lock = self.folder / PYLOCK
        self._run(self.installer.export(OURS, lock))
        return lock

    def _run(self, command: list[str]) -> None:
        output, path, tool = self.folder / "output", self.declared.path, self.installer.name
        try:
            code = run(command, self.source, output, self.installer.environment(self.target))
        except OSError as error:
            raise DependenciesNotFound(
                path, tool, f"{tool} cannot be started: {error.strerror}; install it again", ()
            ) from error
        if code:
            raise DependenciesNotFound(path, tool, meaning(output, tool, self.target), last_words(output))


# --- the same files, whoever brought them -------------------------------------------------------------------------------


def normalised(folder: Path, declared: Declared) -> tuple[tuple[PackedFile, ...], tuple[str, ...]]:
    """Return the files of a folder that dependencies were installed into, without what tells when, where and by whom, and notes.

    Raises:
        BadDependencies: one is installed as a link to where its sources are.
        FileUnreadable: a file cannot be read.
    """
    files = {path.relative_to(folder).as_posix(): path for path in _walk(folder)}
    names = set(files)
    records = {name: record_rows(read(files[name])) for name in files if _is_metadata(name, "RECORD")}
    notes = []
    for name, path in files.items():
        if _is_metadata(name, "direct_url.json") and _is_editable(path):
            what = name.partition("-")[0]
            raise BadDependencies(declared.path, f"{what} is named with -e, and so not copied; leave -e out")
    for name, rows in records.items():
        info = name.rpartition("/")[0]
        ours = canonicalize_name(info.removesuffix(".dist-info").rpartition("-")[0])
        if ours in OURS:
            names -= {_in_folder(row[0]) for row in rows}
            names = {one for one in names if not one.startswith(f"{info}/")}
            notes.append(f"{ours}, which a dependency needs, is left out: every hub brings it")
    names = {name for name in names if not _is_dropped(name, files[name])}
    entries = []
    for name in sorted(names):
        content = _record(name, records[name], names) if name in records else None
        size = files[name].stat().st_size if content is None else len(content)
        entries.append(PackedFile(f"{FOLDER}/{name}", files[name], size, content=content, rule=declared.file))
    return tuple(entries), tuple(notes)


def _walk(folder: Path) -> Iterator[Path]:
    for root, _, files in os.walk(folder, onerror=_unreadable):
        yield from (Path(root, file) for file in files)


def _unreadable(error: OSError) -> None:
    raise FileUnreadable(Path(error.filename), error) from error


def _is_metadata(name: str, file: str) -> bool:
    folder, _, last = name.partition("/")
    return folder.endswith(".dist-info") and last == file


def _is_editable(path: Path) -> bool:
    try:
        found = json.loads(read(path))
    except ValueError:  # not for us to judge: the file stays out of the package
        return False
    folder = found.get("dir_info") if isinstance(found, dict) else None
    return isinstance(folder, dict) and folder.get("editable") is True


def _is_dropped(name: str, path: Path) -> bool:
    folder, _, last = name.partition("/")
    if "__pycache__" in name.split("/") or name in _LEFTOVERS:
        return True
    if folder.endswith(".dist-info") and last in _INSTALLERS_OWN:
        return True
    return folder in _PROGRAMS and _is_script(path)


def _is_script(path: Path) -> bool:
    """Tell whether a program is a text for an interpreter of this machine, or what stands for one on Windows."""
    if path.suffix == ".exe":
        return True
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _in_folder(path: str) -> str:
    """Return a path of a ``RECORD`` in the folder; pip writes where the file would be in an environment."""
    return re.sub(r"^(?:\.\./)+", "", path)


def _record(name: str, rows: list[list[str]], names: set[str]) -> bytes:
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    for path, digest, size in sorted([_in_folder(path), digest, size] for path, digest, size in rows):
        if path in names:
            writer.writerow([path, "", ""] if path == name else [path, digest, size])
    return output.getvalue().encode()
