"""Options that several commands share, and the parsing of their values."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from blemish.messages import message

if TYPE_CHECKING:
    from blemish.data.cache import CacheBudget
    from blemish.model import Model

Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST_SIDE = 16384


def to_size(_: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Callback: "256" is 256 × 256 pixels, "256x320" is height × width."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})(?:[x×]([0-9]{1,5}))?", value.strip().lower())
    if match:
        size = int(match[1]), int(match[2] or match[1])
        if min(size) > 0 and max(size) <= LARGEST_SIDE:
            return size
    raise click.BadParameter(
        message("{value!r} is not a size. Write 256, or 256x320 for height × width.", value=value),
        param=param,
    )


def to_size_or_auto(
    context: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | Literal["auto"] | None:
    """Callback: a size, or "auto"."""
    return "auto" if value == "auto" else to_size(context, param, value)


def to_pixels(context: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Callback: the number of pixels of a size."""
    size = to_size(context, param, value)
    return None if size is None else size[0] * size[1]


def to_arguments(_: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Callback: any number of `name=value`."""
    arguments = {}
    for assignment in values:
        name, sign, text = assignment.partition("=")
        if not sign or not name.strip().isidentifier():
            raise click.BadParameter(
                message("{assignment!r} is not name=value, such as layers=2,3.", assignment=assignment),
                param=param,
            )
        arguments[name.strip()] = parse_value(text.strip())
    return arguments


def parse_value(text: str) -> Any:
    """Number, true, false, null (or None, as the tables of arguments have it) or text; "1,2" and "1," are lists."""
    if "," in text:
        return [parse_value(part.strip()) for part in text.removesuffix(",").split(",")]
    try:
        value = None if text == "None" else json.loads(text)
    except (ValueError, RecursionError):
        return text
    is_plain = (
        value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    )
    return value if is_plain else text


def to_cache(_: click.Context, param: click.Parameter, value: str) -> "CacheBudget":
    """Callback: "2,20" is a maximum of 2 GiB of memory and 20 GiB of disk."""
    from blemish.data.cache import GIB, CacheBudget

    try:
        memory, disk = (float(part) * GIB for part in value.split(","))
        return CacheBudget(memory, disk)
    except ValueError:
        raise click.BadParameter(
            message(
                "{value!r} is not MEMORY,DISK in GiB. Write, for example, 2,20; 0,0 turns the cache off.",
                value=value,
            ),
            param=param,
        ) from None


def require_finite(_: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Callback: refuse nan and inf, which click accepts as floats."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(message("{value} is not a finite number.", value=value), param=param)
    return value


def print_device(model: "Model") -> None:
    """Print the model's device on stderr, unless it is the CPU."""
    if model.runtime.device != "cpu":
        click.echo(message("Device: {device}", device=model.runtime.device), err=True)


def with_backbone(arguments: dict[str, Any], backbone: str | None) -> dict[str, Any]:
    """The arguments of --set and --backbone."""
    if backbone is None:
        return arguments
    if "backbone" in arguments:
        raise click.UsageError(
            message("--backbone and --set backbone=… are the same argument. Give one of them.")
        )
    return {**arguments, "backbone": backbone}


def to_excluded(table: Path | None, data: Path) -> list[Path]:
    """The paths that the file of --exclude lists; none without it."""
    from blemish.data.csv_table import read_paths

    return [] if table is None else read_paths(table, (table.parent, data if data.is_dir() else data.parent))


def data_options(command: Command) -> Command:
    """--layout and --category."""
    layout = click.option(
        "--layout",
        metavar="NAME",
        help="Layout of the data set: csv, visa, mvtec, folder, ok_ng or flat; recognised automatically unless given.",
    )
    category = click.option(
        "--category", metavar="NAME", help="Name of the product, if the data set has several."
    )
    return layout(category(command))


def runtime_options(command: Command) -> Command:
    """--device and --runtime."""
    runtime = click.option(
        "--runtime",
        type=click.Choice(["torch", "onnx"]),
        default="torch",
        show_default=True,
        help="Runtime of the model; onnx needs a model that was fitted with --onnx, but not torch.",
    )
    return device_option(runtime(command))


device_option = click.option(
    "--device",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="Device of torch: auto (the GPU if there is one), cpu, cuda or cuda:1.",
)
backbone_option = click.option(
    "--backbone", metavar="NAME", help="Pretrained network; short for --set backbone=NAME."
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Seed of everything random.",
)
exclude_option = click.option(
    "--exclude",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Leave out the images that the column path of a csv file lists, such as that of `suspects --write`; relative "
    "paths start at its folder, or else at DATA.",
)
share_type = click.FloatRange(0, 1, min_open=True, max_open=True)
false_alarm_rate_type = click.FloatRange(1e-6, 1, max_open=True)  # SMALLEST_RATE, whose module loads slowly
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
