"""Tiny vision transformers saved by transformers, and an empty cache of the Hub."""

import shutil
from pathlib import Path

import pytest
import torch

from hub_models import FAMILIES, SIZES


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each family, saved by transformers."""
    transformers = pytest.importorskip("transformers")
    made = {}
    for kind, (name, _) in FAMILIES.items():
        more = {"num_register_tokens": 4} if FAMILIES[kind][1] == 5 else {}
        config = getattr(transformers, name)(**SIZES, **more)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():  # the initial values hardly tell positions and blocks apart
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
        made[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(made[kind])
    return made


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A ViT whose files may be changed."""
    return Path(shutil.copytree(folders["vit"], tmp_path / "vit"))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the Hub's, and no network."""
    hub_constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"
