"""What `suspects` and `evaluate` write replaces nothing that they read, and costs no result if it fails."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from blemish.data.dataset import open_dataset
from cli_data import draw_part, write

Run = Callable[..., Result]
FAST = ("--method", "variation", "--image-size", "48x64")
COMMANDS = [("suspects", "--write"), ("suspects", "-o"), ("evaluate", "--csv"), ("evaluate", "--report")]


@pytest.fixture
def read(made: Path, model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model and a data set that no other test uses."""
    shutil.copytree(made / "masked", tmp_path / "data")
    return model, tmp_path / "data"


def arguments(command: str, model: Path, data: Path) -> tuple[str | Path, ...]:
    return (command, model, data) if command == "evaluate" else (command, data, "-m", model)


def refused(result: Result, path: Path) -> None:
    assert result.exit_code == 2
    assert f"{path} is read, or written twice. Name another file for --" in result.stderr


@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_nothing_that_is_read_is_overwritten(
    run: Run, read: tuple[Path, Path], command: str, option: str
) -> None:
    model, data = read
    protected = [
        data / "train" / "good" / "3.png",
        data / "test" / "good" / "0.png",
        data / "test" / "spot" / "1.png",
        data / "ground_truth" / "spot" / "2_mask.png",
        *(path for path in model.iterdir() if path.is_file()),
        model / "new.csv",
    ]
    before = {path: path.read_bytes() for path in protected if path.exists()}
    assert len(before) >= 6
    for path in protected:
        refused(run(*arguments(command, model, data), option, path), path)
    assert {path: path.read_bytes() for path in before} == before
    assert not (model / "new.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize(("command", "option"), COMMANDS)
def test_no_other_name_of_an_image_is_overwritten(
    run: Run, read: tuple[Path, Path], command: str, option: str, tmp_path: Path
) -> None:
    model, data = read
    (tmp_path / "link").symlink_to(data, target_is_directory=True)
    (tmp_path / "file").symlink_to(data / "train" / "good" / "3.png")
    (tmp_path / "m").symlink_to(model, target_is_directory=True)
    for path in (tmp_path / "link" / "test" / "good" / "0.png", tmp_path / "file", tmp_path / "m" / "a.csv"):
        refused(run(*arguments(command, model, data), option, path), path)


@pytest.mark.parametrize(("command", "option"), [one for one in COMMANDS if "--write" not in one])
def test_a_file_beside_the_images_may_be_written_twice(
    run: Run, read: tuple[Path, Path], command: str, option: str
) -> None:
    model, data = read
    for _ in range(2):
        result = run(*arguments(command, model, data), option, data / "out.csv")
        assert result.exit_code == 0, result.output


def visa(folder: Path) -> Iterator[Path]:
    for category in ("bolt", "nut"):
        rows = "".join(f"{category}/{number}.png,normal,\n" for number in range(10))
        for number in range(10):
            write(folder / category / f"{number}.png", draw_part(number))
        (folder / category / "image_anno.csv").write_text(f"image,label,mask\n{rows}")
        yield folder / category / "image_anno.csv"


@pytest.mark.parametrize("option", ["--write", "-o"])
def test_tables_and_other_categories_are_not_overwritten(run: Run, tmp_path: Path, option: str) -> None:
    tables = list(visa(tmp_path / "visa"))
    split = tmp_path / "split" / "split_csv" / "1cls.csv"
    write(tmp_path / "split" / "a.png", draw_part(0))
    split.parent.mkdir()
    split.write_text("object,split,label,image,mask\nnut,train,normal,a.png,\n")
    for path in (*tables, tmp_path / "visa" / "nut" / "3.png"):
        refused(run("suspects", tmp_path / "visa", "--category", "bolt", *FAST, option, path), path)
    refused(run("suspects", tmp_path / "split", *FAST, option, split), split)


def test_a_data_set_knows_all_its_files(made: Path) -> None:
    files = open_dataset(made / "masked").files
    assert files == {path for path in (made / "masked").rglob("*") if path.is_file()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(("command", "option"), [("suspects", "--write"), ("evaluate", "--csv")])
def test_a_full_disk_costs_no_result(run: Run, read: tuple[Path, Path], command: str, option: str) -> None:
    expected = run(*arguments(command, *read))
    for form in ((), ("--json",)):
        result = run(*arguments(command, *read), option, "/dev/full", *form)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        assert result.stderr.count("No space left on device") == 1
        if form:
            assert json.loads(result.stdout)
        else:
            assert result.stdout.splitlines()[0] == expected.stdout.splitlines()[0]
            assert "/dev/full" not in result.stdout
