"""Checkpoints never cost a user data, and a state that cannot be right is refused."""

from pathlib import Path

import pytest

import blemish
from blemish.errors import ModelError
from blemish.files import whole_folder
from blemish.training.checkpoint import NUMBERS, Checkpoint
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


def test_state_left_by_a_process_killed_between_two_renames_is_resumed(tmp_path: Path) -> None:
    """The state is read, so its damage is reported; without it, training would begin again in silence."""
    folder = tmp_path / "unfinished"
    folder.mkdir()
    (folder / NUMBERS).write_text("damaged", "utf-8")
    folder.rename(tmp_path / f".unfinished.{'0' * 32}.old")
    with pytest.raises(ModelError, match=r"unfinished training in .*unfinished is damaged"):
        Checkpoint(folder, {}, resume=True).restore(Average(), {})
    assert (folder / NUMBERS).read_text("utf-8") == "damaged"
    assert list(tmp_path.iterdir()) == [folder]


def test_model_left_by_a_killed_process_is_named_and_removed_by_the_next_save(tmp_path: Path) -> None:
    target, old = tmp_path / "m", tmp_path / f".m.{'0' * 32}.old"
    old.mkdir()
    with pytest.raises(ModelError) as caught:
        blemish.load(target)
    assert str(caught.value) == (
        f"{target} is missing because saving it was interrupted. The former model is {old}: rename it."
    )
    with whole_folder(target) as aside:
        (aside / "a").write_text("new", "utf-8")
    assert list(tmp_path.iterdir()) == [target]
