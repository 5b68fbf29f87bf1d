"""Finds and builds methods by name: those of blemish, of installed plug-ins and of the running program."""

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from blemish.data.preprocess import Preprocess
from blemish.errors import MethodError, MissingExtraError
from blemish.messages import nearest
from blemish.methods import CATALOGUE

if TYPE_CHECKING:
    from blemish.methods.base import Method, Preset

ENTRY_POINTS = "blemish.methods"
"""A package offers a method with the entry point `NAME = "module:class"` in this group."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_registered: dict[str, "type[Method]"] = {}


def register_method(name: str, method: "type[Method]") -> None:
    """Register a method of the running program under a name, for fitting and loading.

    Raises:
        MethodError: If the name belongs to another method, or is not a name, or the class is no method.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise MethodError(
            "A method's name is up to 64 letters, digits, '_', '-' and '.', got {name!r:.80}. Choose another.",
            name=name,
        )
    if not isinstance(method, type) or not hasattr(method, "declared"):
        raise MethodError(
            "{method!r:.80} is not a method. Register a subclass of blemish.Method.", method=method
        )
    if name in method_names() and _registered.get(name) is not method:
        raise MethodError(
            "A method called {name!r} exists already. Register yours under another name.", name=name
        )
    _registered[name] = method


def method_names() -> tuple[str, ...]:
    """Names of all methods, those of the catalogue first."""
    return (*dict.fromkeys((*CATALOGUE, *sorted(_installed()), *sorted(_registered))),)


def find_method(name: str) -> "type[Method]":
    """The class behind a name.

    Raises:
        MethodError: If there is none, or the class that a plug-in declares cannot be imported.
        MissingExtraError: If torch is not installed.
    """
    if name in _registered:
        return _registered[name]
    target = CATALOGUE.get(name) or _installed().get(name)
    if target is None:
        raise MethodError(
            "No method is called {name!r}.{hint} Choose one of: {method_names}.",
            name=name,
            hint=nearest(name, method_names()),
            method_names=", ".join(method_names()),
        )
    module, _, attribute = target.partition(":")
    try:
        return cast("type[Method]", getattr(import_module(module), attribute))
    except (ImportError, AttributeError) as error:
        if isinstance(error, ImportError) and error.name == "torch":
            raise MissingExtraError(
                "Methods need the extra `train`: pip install 'blemish[train]'."
            ) from error
        raise MethodError(
            "The method {name!r} cannot be loaded from {target}: {error}. Update or remove the package that "
            "declares it.",
            name=name,
            target=target,
            error=error,
        ) from error


def name_of(method: "type[Method]") -> str:
    """The name under which `find_method` returns this class.

    Raises:
        MethodError: If it is not registered.
    """
    for name, target in {**_installed(), **CATALOGUE}.items():
        # Only classes of the same name are imported; the entry point may name another module than the class's own.
        if target.rpartition(":")[2] == method.__qualname__ and find_method(name) is method:
            return name
    for name, registered in _registered.items():
        if registered is method:
            return name
    raise MethodError(
        "{qualname} has no name by which a saved model could find it. Call "
        "blemish.register_method('name', {qualname}) first, or declare it as an entry point of "
        "the group {entry_points}.",
        qualname=method.__qualname__,
        entry_points=ENTRY_POINTS,
    )


def create_method(
    name: str, *, preset: str | None = None, arguments: Mapping[str, Any] | None = None
) -> "Method":
    """Build a method by its name.

    Args:
        name: In the catalogue, or of a plug-in.
        preset: One of the method's named configurations.
        arguments: For the constructor; they override the preset's.

    Raises:
        MethodError: If the method, the preset or an argument does not exist, or a value does not fit.
    """
    cls = find_method(name)
    chosen = {} if preset is None else _find_preset(name, preset).arguments
    if not isinstance(arguments, Mapping | None):
        raise MethodError(
            "Arguments are a dictionary of names and values, got {kind}. Give one, e.g. {{'layers': (2, 3)}}.",
            kind=type(arguments).__name__,
        )
    settings = {**chosen, **(arguments or {})}
    try:
        return cls(**settings)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise MethodError(
            "{name} cannot be built with {settings}: {error}. See `blemish methods`.",
            name=name,
            settings=settings,
            error=error,
        ) from error


def preset_preprocess(name: str, preset: str | None) -> Preprocess | None:
    """The preprocessing of a method's preset; None without a preset, or if it leaves the preprocessing open.

    Raises:
        MethodError: If the method or the preset does not exist.
    """
    settings = None if preset is None else _find_preset(name, preset).preprocess
    return Preprocess(**settings) if settings else None


def _find_preset(name: str, preset: str) -> "Preset":
    presets = find_method(name).presets
    if not presets:
        raise MethodError(
            "{name} has no presets, but {preset!r} was asked for. Leave the preset out.",
            name=name,
            preset=preset,
        )
    if preset not in presets:
        raise MethodError(
            "{name} has no preset {preset!r}.{hint} It has: {presets}.",
            name=name,
            preset=preset,
            hint=nearest(preset, presets),
            presets=", ".join(presets),
        )
    return presets[preset]


def _installed() -> Mapping[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
