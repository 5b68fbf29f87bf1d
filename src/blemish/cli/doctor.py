"""`blemish doctor`: checks the installation; every problem comes with its remedy."""

import os
import platform
import re
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import click

from blemish.cli import environment
from blemish.messages import message, pad

VARIABLES = ("BLEMISH_WEIGHTS", "BLEMISH_WEIGHTS_URL", "BLEMISH_MAX_PIXELS", "BLEMISH_DATA")
"""Environment variables that blemish reads, the last one in its tests and benchmarks only."""
LISTED_EXTRAS = ("train", "onnx", "export")
"""Extras whose packages are listed."""

EXAMPLES = """\b
blemish doctor
"""


@click.command("doctor", short_help="Check this installation.", epilog=EXAMPLES)
def command() -> None:
    """Check this installation: versions, devices, weights, limits of a container; every problem with its remedy.

    The exit code is 1 if blemish cannot work at all.
    """
    for name, value in facts():
        click.echo(f"{pad(name, 20)} {value}")
    broken, others = find_problems()
    click.echo()
    for problem in (*broken, *others):
        click.echo(message("Problem: {problem}", problem=problem))
    if not broken and not others:
        click.echo(message("No problems found."))
    if broken:
        click.get_current_context().exit(1)


def facts() -> Iterator[tuple[str, str]]:
    """Name and value of each fact about the installation and the computer."""
    yield (
        "blemish",
        message("{version} in {folder}", version=version("blemish"), folder=Path(__file__).parents[1]),
    )
    yield (
        "python",
        message("{version} on {system}", version=platform.python_version(), system=platform.platform()),
    )
    memory = memory_bytes()
    size = message("unknown memory") if memory is None else environment.memory_size(memory)
    yield message("computer"), message("{count:g} CPUs", count=os.cpu_count()) + f", {size}"
    absent = message("(absent)")
    for extra in ("", *LISTED_EXTRAS):
        listed = ", ".join(f"{name} {version_of(name) or absent}" for name in requirements()[extra])
        yield (message("extra {name}", name=extra) if extra else message("needs")), listed
    yield from environment.facts()
    yield from _torch_facts()
    for name in sorted(os.environ):
        if name.startswith("BLEMISH_"):
            yield name, os.environ[name]


def _torch_facts() -> Iterator[tuple[str, str]]:
    try:
        from blemish.features import weights
        from blemish.runtimes.torch import available_devices
    except ImportError:
        return
    yield message("devices"), ", ".join(available_devices())
    for folder in weights.folders():
        files = sorted(path.name for path in _weight_files(folder))
        yield message("weights"), f"{folder}: {', '.join(files) or message('none')}"


def _weight_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix in (".safetensors", ".pth")]


def find_problems() -> tuple[list[str], list[str]]:
    """Problems with which blemish cannot work at all, and other problems; each in one line with its remedy."""
    broken: list[str] = []
    others: list[str] = []
    absent = {
        extra: [name for name in names if version_of(name) is None] for extra, names in requirements().items()
    }
    if absent[""]:
        broken.append(
            message(
                "{absent} not installed. Run: pip install --force-reinstall blemish",
                absent=", ".join(absent[""]),
            )
        )
    try:
        if opencv := environment.opencv_problem():
            broken.append(opencv)
        else:
            import blemish.data.images
            import blemish.workflow.fit  # noqa: F401
    except ImportError as error:
        broken.append(
            message(
                "A package cannot be imported: {error}. Run: pip install --force-reinstall blemish",
                error=error,
            )
        )
    for extra, loss in (
        ("train", message("only models exported to ONNX can be used, none can be fitted")),
        ("onnx", message("models cannot run without torch")),
        ("export", message("models cannot be exported to ONNX")),
    ):
        if absent[extra]:
            others.append(
                message(
                    "{absent} not installed: {loss}. Run: pip install 'blemish[{extra}]'",
                    absent=", ".join(absent[extra]),
                    loss=loss,
                    extra=extra,
                )
            )
    return broken, [*others, *environment.problems(), *_variable_problems(), *_weight_problems()]


def _variable_problems() -> Iterator[str]:
    for name in sorted(os.environ):
        if name.startswith("BLEMISH_") and name not in VARIABLES:
            close = get_close_matches(name, VARIABLES, n=1)
            yield (
                message(
                    "{name} is not a variable of blemish. Did you mean {close}?", name=name, close=close[0]
                )
                if close
                else message("{name} is not a variable of blemish. Unset it.", name=name)
            )
    folder = os.environ.get("BLEMISH_WEIGHTS")
    if folder and not Path(folder).is_dir():
        yield message(
            "BLEMISH_WEIGHTS is {folder}, which is not a folder. Set it to the folder of the weight files.",
            folder=folder,
        )
    pixels = os.environ.get("BLEMISH_MAX_PIXELS")
    if pixels and not (pixels.isdecimal() and len(pixels) <= 18 and int(pixels) > 0):
        yield message(
            "BLEMISH_MAX_PIXELS is {pixels!r}. Set it to a whole number of pixels above 0, or unset it.",
            pixels=pixels,
        )


def _weight_problems() -> Iterator[str]:
    try:
        from blemish.features import weights
    except ImportError:
        return
    if not any((folder / "compact.safetensors").is_file() for folder in weights.folders()):
        yield message(
            "The embedded backbone compact.safetensors is absent. Run: pip install --force-reinstall blemish"
        )


def requirements() -> dict[str, list[str]]:
    """Extra → names of its packages; those that are always required are under the empty name."""
    grouped: dict[str, list[str]] = {
        extra: [] for extra in ("", *metadata("blemish").get_all("Provides-Extra", []))
    }
    for requirement in requires("blemish") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name:
            grouped[extra[1] if extra else ""].append(name[0])
    return grouped


def version_of(package: str) -> str | None:
    """Installed version; None if absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def memory_bytes() -> int | None:
    """Physical memory in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
