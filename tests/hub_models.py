"""Model types of the Hugging Face Hub in small, their inputs, and changes to their files."""

import json
import shutil
from pathlib import Path

import torch
from torch import Tensor

PATCH = 4
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
FAMILIES = {  # model type → (config class, tokens before the patches)
    "vit": ("ViTConfig", 1),
    "deit": ("DeiTConfig", 2),
    "dinov2": ("Dinov2Config", 1),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", 5),
    "dinov3_vit": ("DINOv3ViTConfig", 5),
}
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def images(height: int = 20, width: int = 12) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(5))


def normalised(images: Tensor, kind: str) -> Tensor:
    """As the authors of each model type trained it."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (([0.5] * 3, [0.5] * 3) if kind == "vit" else IMAGENET)
    )
    return (images - mean) / std


def put_into(cache: Path, *files: Path) -> None:
    """As the Hub's client lays out acme/tiny."""
    repository, commit = cache / "models--acme--tiny", "0" * 40
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, snapshot)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
