"""Vision transformers from the Hugging Face Hub, `hf:facebook/dinov2-small`, or a folder, `hf:./folder`.

Only `config.json`, `model.safetensors` and, if it exists, `preprocessor_config.json` are downloaded and read: no
pickle, no code from the repository. The Hub's own cache is read before the network.
"""

import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from blemish.errors import MissingExtraError, WeightsError
from blemish.features import imagenet
from blemish.features.imagenet import RGB
from blemish.messages import listed

logger = logging.getLogger("blemish")

PREFIX = "hf:"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""Name of a repository on the Hub; anything else (./folder, /folder, ~/folder) is a local folder."""

FORWARD_ARGUMENTS: dict[str, dict[str, bool]] = {
    "vit": {"interpolate_pos_encoding": True},
    "deit": {"interpolate_pos_encoding": True},
    "dinov2": {},
    "dinov2_with_registers": {},
    "dinov3_vit": {},
}
"""Model type → arguments of its `forward` for images of any size."""

HALF: RGB = (0.5, 0.5, 0.5)
"""Mean and std of the type `vit`; the other types are trained with ImageNet's."""


class HubNetwork(nn.Module):
    """The blocks of a vision transformer up to the last requested layer; each gives a map of its patch tokens.

    Args:
        model: Of transformers, cut after the last of `layers`.
        layers: Numbers of blocks.
        final_norm: Whether the tokens of every layer pass the model's final norm.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int], final_norm: bool) -> None:
        super().__init__()
        config: Any = model.config
        self.model = model
        self.patch: int = config.patch_size
        self.channels: dict[int, int] = dict.fromkeys(layers, config.hidden_size)
        self._arguments = FORWARD_ARGUMENTS[config.model_type]
        self._final_norm = final_norm

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Layer → (N, C, ⌈H / patch⌉, ⌈W / patch⌉), the tokens after that block.

        Images whose sides are no multiples of the patch are enlarged to the next multiple (bilinear), so that the
        grid spans the image exactly; the position encoding is interpolated to the grid.
        """
        rows, columns = (-(-side // self.patch) for side in images.shape[2:])
        size = (rows * self.patch, columns * self.patch)
        if images.shape[2:] != size:
            images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
        states = self.model(
            pixel_values=images, output_hidden_states=[*self.channels], **self._arguments
        ).hidden_states  # 0 is the input of block 1; class, distillation and register tokens come first
        patches = {k: states[k][:, -rows * columns :] for k in self.channels}
        if self._final_norm:
            norm = self.model.get_submodule("norm" if hasattr(self.model, "norm") else "layernorm")
            patches = {k: norm(tokens) for k, tokens in patches.items()}
        return {k: tokens.transpose(1, 2).unflatten(2, (rows, columns)) for k, tokens in patches.items()}


class Checkpoint:
    """The files of a vision transformer; reads its configuration and builds it.

    `mean` and `std` normalise its images: those of `preprocessor_config.json`, or else those of its model type.

    Args:
        name: "hf:" and a repository or a folder.
        pretrained: Whether to load its weights, too.

    Raises:
        MissingExtraError: If transformers is not installed.
        WeightsError: If a file is neither in the cache nor can be downloaded, or the model is not a plain ViT.
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        try:
            self._library: Any = import_module("transformers")
        except ImportError as error:
            raise MissingExtraError(
                "Backbone {name} needs the extra `hf`: pip install 'blemish[hf]'.", name=name
            ) from error
        self.name = name
        self._folder = _find(name, [CONFIG, WEIGHTS] if pretrained else [CONFIG])
        self._pretrained = pretrained
        try:
            self._config: Any = self._library.AutoConfig.from_pretrained(
                self._folder, trust_remote_code=False, local_files_only=True
            )
        except Exception as error:  # an invalid file can make transformers raise anything
            raise WeightsError(
                "{folder} cannot be read: {error} Name a vision transformer saved by transformers.",
                folder=self._folder / CONFIG,
                error=_sentence(error, 0),
            ) from error
        kind, patch = self._config.model_type, getattr(self._config, "patch_size", None)
        if kind not in FORWARD_ARGUMENTS or not isinstance(patch, int):
            raise WeightsError(
                "{name} is a model of type {kind} with patches of {patch}; a backbone must have square patches "
                "and be one of: {known}.",
                name=name,
                kind=kind,
                patch=patch,
                known=", ".join(FORWARD_ARGUMENTS),
            )
        self.layers: tuple[int, ...] = tuple(range(1, self._config.num_hidden_layers + 1))
        usual = (HALF, HALF) if kind == "vit" else (imagenet.MEAN, imagenet.STD)
        path = _find_preprocessor(name, self._folder, pretrained)
        self.mean, self.std = usual if path is None else _read_statistics(path, usual)

    def build(self, layers: Sequence[int], seed: int, final_norm: bool) -> HubNetwork:
        """The network up to the last of `layers`, with random weights from `seed` if it is not pretrained."""
        self._config.num_hidden_layers = max(layers)
        # Both are set, because a config may name others; an attention of the repository's would be downloaded code.
        options: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "sdpa"}
        if self._pretrained:
            model = self._loaded(options)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = self._library.AutoModel.from_config(self._config, trust_remote_code=False, **options)
        if hasattr(model, "pooler"):
            model.pooler = None  # serves classification only; many checkpoints lack it
        return HubNetwork(model, layers, final_norm)

    def _loaded(self, options: dict[str, Any]) -> Any:
        path = self._folder / WEIGHTS
        try:
            with _quiet():
                model, report = self._library.MODEL_MAPPING[type(self._config)].from_pretrained(
                    None,  # tensors instead of a folder, where transformers would read adapters and other formats
                    config=self._config,
                    state_dict=load_file(path),
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,  # refused below, by name
                    output_loading_info=True,
                    **options,
                )
        except Exception as error:  # a damaged file
            raise WeightsError(
                "{path} cannot be loaded: {error} Replace it with an undamaged file.",
                path=path,
                error=_sentence(error, 0),
            ) from error
        wrong = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
        wrong = sorted(key for key in wrong if not key.startswith("pooler."))
        if wrong:
            raise WeightsError(
                "{path} does not fit the {config} beside it: {wrong} is missing or has another shape, "
                "and so have {others} other tensors. Replace both files with those of one model.",
                path=path,
                config=CONFIG,
                wrong=wrong[0],
                others=len(wrong) - 1,
            )
        return model


def _find(name: str, files: Sequence[str]) -> Path:
    """The folder that holds the files: the local folder, or that of the Hub's cache."""
    location = name.removeprefix(PREFIX)
    if not REPOSITORY.fullmatch(location):
        folder = Path(location).expanduser()
        for file in files:
            if not (folder / file).is_file():
                raise WeightsError(
                    "{name} names a folder, but there is no {folder}. "
                    "Put the model's {files} there, or name a repository: hf:OWNER/MODEL.",
                    name=name,
                    folder=folder / file,
                    files=listed(files),
                )
        return folder
    return _fetched(location, files)


def _find_preprocessor(name: str, folder: Path, pretrained: bool) -> Path | None:
    """The model's `preprocessor_config.json`, if it has one; it is downloaded only with pretrained weights."""
    location = name.removeprefix(PREFIX)
    if (folder / PREPROCESSOR).is_file():
        return folder / PREPROCESSOR
    if not (REPOSITORY.fullmatch(location) and pretrained):
        return None
    hub: Any = import_module("huggingface_hub")
    try:
        return Path(hub.hf_hub_download(location, PREPROCESSOR))
    except hub.errors.RemoteEntryNotFoundError:
        return None
    except (OSError, ValueError):
        logger.warning(
            "%s of %s cannot be downloaded; images are normalised with the mean and std of its model type",
            PREPROCESSOR,
            location,
        )
        return None


def _read_statistics(path: Path, usual: tuple[RGB, RGB]) -> tuple[RGB, RGB]:
    """`image_mean` and `image_std` of a preprocessor's config, or `usual` if it has none.

    Raises:
        WeightsError: If they are not three finite numbers each, or a number of std is not positive.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        mean, std = (
            tuple(map(float, config.get(key, default)))
            for key, default in zip(("image_mean", "image_std"), usual, strict=True)
        )
        valid = len(mean) == len(std) == 3 and all(map(math.isfinite, mean + std)) and min(std) > 0
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        valid = False
    if not valid:
        raise WeightsError(
            "{path} does not hold image_mean and image_std of three numbers each, the latter above 0. "
            "Replace it with the model's own file, or remove it.",
            path=path,
        )
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _fetched(repository: str, files: Sequence[str]) -> Path:
    """The folder of the Hub's cache that holds the files; missing ones are downloaded."""
    hub: Any = import_module("huggingface_hub")
    for offline in (True, False):
        try:
            paths = [Path(hub.hf_hub_download(repository, file, local_files_only=offline)) for file in files]
        except (OSError, ValueError) as error:
            failure = error
            if offline:
                logger.warning("Looking for %s on the Hugging Face Hub", repository)
        else:
            return paths[0].parent
    raise WeightsError(
        "{files} of {repository} are not in Hugging Face's cache, and downloading failed: "
        "{failure} Copy that cache ($HF_HOME) from a computer that has them, or put the files into "
        "a folder and name it: hf:./FOLDER.",
        files=listed(files),
        repository=repository,
        failure=_sentence(failure, -1),
    ) from failure


def _sentence(error: Exception, line: int) -> str:
    """One line of an error's text: the first of transformers' errors, the last of the Hub's say most."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[line].rstrip(".:") + "."


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers, which reports all tensors that it does not use, such as those of the layers cut off."""
    log: Any = import_module("transformers.utils.logging")
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
