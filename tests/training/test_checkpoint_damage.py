"""Checkpoints never cost a user data, and a state that cannot be right is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import blemish
from blemish.errors import BlemishWarning, DataError, ModelError
from blemish.training.checkpoint import NUMBERS, Checkpoint, Progressed
from blemish.training.log import csv_log
from tiny_product import SMALL, Average, normal_samples


@pytest.mark.parametrize("content", ["notes.txt", "manifest.json", "state.json/inner.txt"])
def test_folder_with_other_content_is_not_deleted(tmp_path: Path, content: str) -> None:
    images = normal_samples(tmp_path / "images", 4)
    precious = tmp_path / "precious"
    file = precious / content
    file.parent.mkdir(parents=True)
    file.write_text("mine", "utf-8")
    with pytest.raises(
        ModelError, match=r"precious exists and is not the checkpoint of a training, so it is"
    ):
        blemish.fit("template", images, preprocess=SMALL, checkpoint=precious)
    assert file.read_text("utf-8") == "mine"


def test_neither_the_current_folder_nor_a_file_is_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("mine", "utf-8")
    for path in (Path(), Path("a.txt")):
        with pytest.raises(ModelError, match="is not the checkpoint of a training"):
            Checkpoint(path, {}, resume=False)
    assert Path("a.txt").read_text("utf-8") == "mine"


def test_empty_folder_and_older_state_may_be_replaced(tmp_path: Path) -> None:
    Checkpoint(tmp_path, {}, resume=False)
    (tmp_path / NUMBERS).write_text("{}", "utf-8")
    Checkpoint(tmp_path, {}, resume=False).clear()
    assert not tmp_path.exists()


def test_what_a_killed_process_left_is_removed_by_the_next_state(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    kept(folder)
    left = [f".{'0' * 32}.partial", "state.0123456789abcdef.safetensors", ".lock"]
    for name in left:
        (folder / name).touch()
    checkpoint, method = kept(folder)
    assert len(list(folder.iterdir())) == 2
    assert checkpoint.restore(method, {}, 5)[0].step == 2


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state", {}, resume=True)
    with pytest.warns(
        BlemishWarning, match=r"state holds no unfinished training to resume, so training begins"
    ):
        assert checkpoint.restore(Average(), {}, 1) == (Progressed(), {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"step": 10**9}, "it is at step 1000000000 of 5"),
        ({"step": -1}, "done.step must be a whole number, not negative, got -1"),
        ({"step": 1.5}, "done.step must be a whole number, not negative, got 1.5"),
        ({"first": {"loss": float("nan")}}, "done.first must be"),
        ({"losses": [{"loss": "x"}]}, "done.losses must be"),
        ({"seen": {"loss": 0}}, "done.seen must be"),
        ({"seen": {}}, "sums and seen must have the same names"),
    ],
)
def test_progress_that_cannot_be_right_is_refused(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    checkpoint, method = kept(tmp_path / "state")
    file = tmp_path / "state" / NUMBERS
    numbers = json.loads(file.read_text("utf-8"))
    numbers["done"] |= change
    file.write_text(json.dumps(numbers), "utf-8")
    with pytest.raises(ModelError, match=r"is damaged .* Start again without --resume") as caught:
        checkpoint.restore(method, {}, 5)
    assert problem in str(caught.value)


def test_tensors_of_another_shape_are_refused(tmp_path: Path) -> None:
    """The shapes of an optimizer's state are known to the optimizer only, and fail in its next step."""
    checkpoint, method = kept(tmp_path / "state")
    (file,) = (tmp_path / "state").glob("*.safetensors")
    assert checkpoint.restore(method, {}, 5)[0].step == 2
    save_file({**load_file(file), "optimizer/adam/0/exp_avg": torch.zeros(7)}, file)
    with pytest.raises(ModelError, match=r"is damaged .*the sha256 of state\.\w+\.safetensors differs"):
        checkpoint.restore(method, {}, 5)


def kept(folder: Path) -> tuple[Checkpoint, Average]:
    """A checkpoint after two steps."""
    checkpoint, method = Checkpoint(folder, {"seed": 0}, resume=True), Average()
    done = Progressed(2, {"loss": 1.0}, {"loss": 3.0}, {"loss": 4}, [{"loss": 1.0}])
    checkpoint.keep(method, {}, done, {})
    return checkpoint, method


@pytest.mark.parametrize(
    "content", [b"loss\n1.0\n", b"epoch,loss\nx,1\n", b"epoch\n0,1\n", b"\xff\xfe\n", b'epoch\n"0']
)
def test_damaged_log_of_losses_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "losses.csv"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"losses\.csv is damaged \(.*\), so no losses can be appended\. Delete"
    ):
        csv_log(tmp_path, True).__enter__()
    assert path.read_bytes() == content
