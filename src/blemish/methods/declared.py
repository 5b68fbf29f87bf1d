"""The arguments of a method class, collected from the declarations in its body and in its bases."""

from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, Signature, cleandoc, get_annotations, getattr_static
from reprlib import Repr
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from blemish.errors import MethodError
from blemish.messages import message, nearest
from blemish.methods.arguments import Argument

RESERVED = frozenset(
    {"self", "training", "learned", "auxiliary", "auxiliary_products", "held_out", "progress"}
)
"""Names that the constructor uses or sets, in addition to the attributes of the base classes."""
SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80


class Declared:
    """The declared arguments of one class, in order of declaration.

    Args:
        owner: Name of the class.
        arguments: Its arguments by name, inherited ones first.
    """

    def __init__(self, owner: str, arguments: Mapping[str, Argument]) -> None:
        self.owner = owner
        self.arguments = arguments
        self._model: type[BaseModel] | None = None

    @classmethod
    def by(cls, owner: type) -> "Declared":
        """The arguments that a class and its bases declare, with the defaults that hold for the class.

        In the class, each declaration is replaced by its default.

        Raises:
            TypeError: If a declaration or a default cannot work.
        """
        arguments: dict[str, Argument] = {}
        for base in reversed(owner.__mro__):
            for name, value in list(vars(base).items()):
                if isinstance(value, Declared):
                    arguments |= value.arguments
                elif isinstance(value, Argument):
                    arguments[name] = _sound(owner, base, replace(value, name=name))
        for name, argument in arguments.items():
            default = getattr_static(owner, name)
            if isinstance(default, Argument):
                default = argument.default
                setattr(owner, name, default)
            arguments[name] = replace(argument, default=default)
        declared = cls(owner.__name__, arguments)
        try:
            declared.check({name: argument.default for name, argument in arguments.items()})
        except MethodError as error:
            raise TypeError(message("A default does not fit its argument. {error}", error=error)) from None
        return declared

    @property
    def model(self) -> type[BaseModel]:
        """A pydantic model with one field per argument; its JSON schema describes the arguments to other programs."""
        if self._model is None:
            fields: Any = {
                a.name: (a.type, Field(a.default, description=a.meaning)) for a in self.arguments.values()
            }
            settings = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())
            self._model = create_model(f"{self.owner}Arguments", __config__=settings, **fields)
        return self._model

    @property
    def signature(self) -> Signature:
        """The constructor's signature: keyword-only arguments with their defaults."""
        parameters = [
            Parameter(a.name, Parameter.KEYWORD_ONLY, default=a.default, annotation=a.kind)
            for a in self.arguments.values()
        ]
        return Signature(parameters)

    def documented(self, doc: str | None) -> str | None:
        """The class docstring with a section about the arguments."""
        if not doc or not self.arguments:
            return doc
        lines = [
            f"    {a.name}: {a.meaning} Must be {a.expected}; the default is {a.default!r}."
            for a in self.arguments.values()
        ]
        return "\n".join([cleandoc(doc), "", "Args:", *lines])

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all arguments; those that are not given have their defaults.

        Raises:
            MethodError: If an argument is unknown, or a value is of another type or outside the range.
        """
        unknown = [name for name in values if name not in self.arguments]
        if unknown:
            if not self.arguments:
                raise MethodError(
                    "{owner} has no arguments, but got {unknown!r}. Leave it out.",
                    owner=self.owner,
                    unknown=unknown[0],
                )
            raise MethodError(
                "{owner} has no argument {unknown!r}.{hint} It has: {known}.",
                owner=self.owner,
                unknown=unknown[0],
                hint=nearest(unknown[0], self.arguments),
                known=", ".join(self.arguments),
            )
        try:
            checked = self.model(**values)
        except ValidationError as error:
            wrong = self.arguments[str(error.errors()[0]["loc"][0])]
            raise MethodError(
                "{owner}: {name} must be {expected}, got {value}. The default is {default!r}.",
                owner=self.owner,
                name=wrong.name,
                expected=wrong.expected,
                value=SHORT.repr(values[wrong.name]),
                default=wrong.default,
            ) from None
        return {name: getattr(checked, name) for name in self.arguments}


def _sound(owner: type, base: type, argument: Argument) -> Argument:
    """The argument that `base` declares, with its type; refused if its name or its declaration cannot work."""
    name = argument.name
    inherited = next((vars(other)[name] for other in base.__mro__[1:] if name in vars(other)), 0)
    if (
        name.startswith("_")
        or name in RESERVED
        or hasattr(BaseModel, name)
        or not isinstance(inherited, Argument | bool | int | float | str | tuple | None)
    ):
        raise TypeError(
            message(
                "{name}: no argument can be called {argument!r}. Choose another name.",
                name=owner.__name__,
                argument=name,
            )
        )
    annotation = get_annotations(base).get(name)
    if isinstance(
        annotation, str
    ):  # alone, because other annotations may name what is imported for types only
        alone = type(name, (), {"__annotations__": {name: annotation}, "__module__": base.__module__})
        annotation = get_type_hints(alone)[name]
    typed = replace(argument, kind=annotation)
    if typed.fault:
        raise TypeError(
            message(
                "{name}: the argument {argument} {fault}.",
                name=owner.__name__,
                argument=name,
                fault=typed.fault,
            )
        )
    return typed
