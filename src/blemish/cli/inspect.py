"""`blemish inspect`: verdicts on new images, and heat maps of where the defects are."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from blemish.cli.options import json_option, require_device, runtime_options
from blemish.errors import DataError

if TYPE_CHECKING:
    from blemish.inspection.result import Inspection
    from blemish.model import Model
    from blemish.types import Image

FAILED, FOUND_NG = 1, 3
"""Exit codes: an image could not be read; `--fail-on ng` met an NG image."""

EXAMPLES = """\b
blemish inspect bottle.blemish new/ -o heatmaps
blemish inspect bottle.blemish part.png --json --fail-on ng
"""


@click.command("inspect", short_help="Judge new images: OK or NG, and where.", epilog=EXAMPLES)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a heat map of every image there, NAME_heatmap.jpg, in the images' own folder structure.",
)
@json_option
@click.option(
    "--fail-on", type=click.Choice(["ng"], case_sensitive=False), help="Exit with code 3 if any image is NG."
)
@runtime_options
def command(
    model: Path,
    paths: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    fail_on: str | None,
    runtime: str,
    device: str,
) -> None:
    """Judge images with MODEL. Each PATH is an image, or a folder searched with its subfolders.

    Prints a line for every image; with --json, a JSON object on each line. An image that cannot be read is
    reported, the others are judged all the same, and the exit code is 1.
    """
    from blemish.cli.progress import shown_progress
    from blemish.model import load
    from blemish.types import no_progress

    require_device(device, runtime)
    loaded = load(model, runtime=runtime, device=device)
    images = find_images(paths, output)
    heat_maps = {} if output is None else plan_heat_maps(images, output)
    results = write_heat_maps(inspect_images(loaded, list(images)), heat_maps)
    counts = {"OK": 0, "NG": 0, "unreadable": 0}
    # The lines themselves show how far it is; a bar between them would only flicker.
    with nullcontext(no_progress) if sys.stdout.isatty() else shown_progress() as progress:
        for result in results:
            counts["unreadable" if isinstance(result.outcome, DataError) else result.outcome.verdict] += 1
            _print(result, as_json)
            progress("inspecting", sum(counts.values()), len(images))
    if counts["unreadable"]:
        click.get_current_context().exit(FAILED)
    if fail_on and counts["NG"]:
        click.get_current_context().exit(FOUND_NG)


class Result(NamedTuple):
    """What came of one path."""

    path: Path
    picture: "Image | None"
    outcome: "Inspection | DataError"


def find_images(paths: Iterable[Path], output: Path | None = None) -> dict[Path, Path]:
    """The image files of files and folders, each with the folder that its heat map's place is relative to.

    A path that is not there or holds no image is kept, so that it is reported like an unreadable image. Files
    below `output` are results of an earlier run and passed over.
    """
    from blemish.data.images import is_image_file
    from blemish.data.layouts import natural_order

    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            found.setdefault(path, path.parent)
            continue
        skipped = output.resolve() if output is not None and output.resolve() != path.resolve() else None
        files = (file for file in path.rglob("*") if is_image_file(file))
        kept = [file for file in files if skipped is None or skipped not in file.resolve().parents]
        for file in sorted(kept, key=natural_order) or [path]:
            found.setdefault(file, path)
    return found


def plan_heat_maps(images: Mapping[Path, Path], output: Path) -> dict[Path, Path]:
    """For every image the file of its heat map: never the same for two, never an image itself.

    Raises:
        UsageError: A heat map would overwrite an image.
    """
    roots = {root: root.resolve() for root in images.values()}
    drives = {root.drive for root in roots.values()}
    shared = Path(os.path.commonpath(roots.values())) if len(drives) == 1 else None
    originals = {path.resolve() for path in images}
    taken: set[Path] = set()
    planned: dict[Path, Path] = {}
    for path, root in images.items():
        if path == root:  # a folder without images
            continue
        place = roots[root] / path.relative_to(root)
        place = place.relative_to(place.anchor if shared is None else shared)
        # a.png and a.jpg of one folder: the second one keeps its suffix in the name.
        names = (f"{place.stem}_heatmap.jpg", f"{place.name}_heatmap.jpg")
        files = [output.resolve() / place.with_name(name) for name in names]
        file = next((file for file in files if file not in taken), files[0])
        if file in taken or file in originals:
            raise click.UsageError(
                f"The heat map of {path} would overwrite another image. Name another folder with -o."
            )
        taken.add(file)
        planned[path] = file
    return planned


def inspect_images(model: "Model", paths: Sequence[Path]) -> Iterator[Result]:
    """Judge images in batches, in the order given, while threads decode ahead."""
    from blemish.data.dataset import in_batches, prefetch
    from blemish.scoring import batch_size

    for batch in in_batches(prefetch(paths, _read), batch_size(model.preprocess)):
        pictures = [picture for _, picture in batch if not isinstance(picture, DataError)]
        judged = zip(*model.score(pictures), strict=True) if pictures else iter(())
        for path, picture in batch:
            if isinstance(picture, DataError):
                yield Result(path, None, picture)
            else:
                yield Result(path, picture, model.judge(*next(judged), picture, path))


def write_heat_maps(results: Iterable[Result], files: Mapping[Path, Path]) -> Iterator[Result]:
    """Hand on the results, in order, once the heat maps that `files` names are written, in threads."""
    from blemish.data.dataset import prefetch

    def write(result: Result) -> Result:
        if not isinstance(result.outcome, DataError):
            result.outcome.save(files[result.path])
        return result

    return prefetch(results, write) if files else iter(results)


def _read(path: Path) -> "tuple[Path, Image | DataError]":
    from blemish.data.images import read_image

    if path.is_dir():
        return path, DataError(f"{path} holds no images. Name a folder that does, or an image.")
    try:
        return path, read_image(path)
    except DataError as error:
        return path, error


def _print(result: Result, as_json: bool) -> None:
    outcome = result.outcome
    if isinstance(outcome, DataError):
        if as_json:
            click.echo(json.dumps({"path": str(result.path), "error": str(outcome)}))
        else:
            click.echo(f"Error: {outcome}", err=True)
    elif as_json:
        click.echo(json.dumps(outcome.to_dict()))
    else:
        verdict = click.style(outcome.verdict, fg="red" if outcome.verdict == "NG" else "green", bold=True)
        click.echo(
            f"{verdict} {outcome.score:.4g} (threshold {outcome.threshold:.4g}) "
            f"regions {len(outcome.regions)} {result.path}"
        )
