"""Objects from configs: `{_target_: package.Class, key: value}` is checked against the constructor, then called.

The constructor that a config names is its schema. What it refuses comes back as a `UsageError` with the config's path.
A config that somebody else wrote must not run code that it names: unless more is trusted with `trusting`, an import
path is followed only to a class defined in `deblur`, a module of `torch.nn` or an optimiser of `torch.optim`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from deblur.errors import ArgumentError, UsageError, nearest, shown
from deblur.installed import installed

EVERYTHING = "*"
_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())


@contextmanager
def trusting(*packages: str) -> Iterator[None]:
    """Within the block, configs may also name classes of these packages; `EVERYTHING` for what the user typed."""
    token = _trusted.set(_trusted.get() | frozenset(packages))
    try:
        yield
    finally:
        _trusted.reset(token)


@contextmanager
def only_trusting(*packages: str) -> Iterator[None]:
    """Within the block, configs may name classes of these packages and no others, whatever was trusted before."""
    token = _trusted.set(frozenset(packages))
    try:
        yield
    finally:
        _trusted.reset(token)


def build(config: Mapping[str, Any], path: str, **arguments: Any) -> Any:
    """The object that the config describes; nested configs with a `_target_` are built first.

    Args:
        config: plain containers, `_target_` and the constructor's keyword arguments.
        path: where the config stands, for messages: `model` for `model.width`.
        **arguments: further keyword arguments that are no part of the config.

    Raises:
        UsageError: unknown or missing keys, refused values, a target that is missing or not trusted.
    """
    cls = find_class(config, path)
    settings = {key: _build_nested(value, f"{path}.{key}") for key, value in config.items() if key != "_target_"}
    _check_keys(cls, settings, arguments, path)
    try:
        return cls(**settings, **arguments)
    except ArgumentError as error:
        raise UsageError(f"{path}.{error}") from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        if cls.__module__.split(".")[0] == "deblur":
            raise
        raise UsageError(f"{path}: {cls.__name__} refuses {shown(settings_text(settings))}: {shown(error)}") from error


def find_class(config: Mapping[str, Any], path: str) -> type:
    """The class that a config's `_target_` names.

    Raises:
        UsageError: there is none, it cannot be imported, it is no class or it is not trusted.
    """
    target = config.get("_target_")
    parts = target.split(".") if isinstance(target, str) else []
    # A name with __ is none that a user needs: importing a package's __main__ runs it.
    if len(parts) < 2 or not all(part.isidentifier() and not part.startswith("__") for part in parts):
        raise UsageError(f"{path}._target_={shown(target)}: must be the import path of a class, like package.Class")
    package = parts[0]
    trusted = _trusted.get()
    if package not in {"deblur", "torch"} | trusted and EVERYTHING not in trusted:
        raise UsageError(f"{path}._target_={target}: not trusted; allow=[{package}] lets this run name its classes")
    found = _import(target, path)
    if not isinstance(found, type):
        raise UsageError(f"{path}._target_={target}: must be a class, this is a {type(found).__name__}")
    if EVERYTHING not in trusted and not _is_trusted(found, trusted):
        raise UsageError(
            f"{path}._target_={target}: not trusted; allowed are classes of deblur, modules of torch.nn and "
            "optimisers of torch.optim"
        )
    return found


def _is_trusted(cls: type, trusted: frozenset[str]) -> bool:
    home = cls.__module__
    if home.split(".")[0] in {"deblur"} | (trusted - {"torch"}):
        return True
    if home.startswith("torch.nn."):
        from torch import nn

        return issubclass(cls, nn.Module)
    return home.startswith("torch.optim.")


def _import(target: str, path: str) -> Any:
    parts = target.split(".")
    for split in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:split])
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise UsageError(f"{path}._target_={target}: cannot be imported: {error}") from error
        except ImportError as error:
            raise UsageError(f"{path}._target_={target}: cannot be imported: {error}") from error
        for part in parts[split:]:
            if not hasattr(found, part):
                raise UsageError(f"{path}._target_={target}: {name} has no {part}{nearest(part, _classes(found))}")
            found = getattr(found, part)
        return found
    raise UsageError(f"{path}._target_={target}: there is no package {parts[0]}{_how_to_install(parts[0])}")


def _how_to_install(package: str) -> str:
    """`; pip install -e '.[extra]' installs it` for a package of one of our extras, or nothing."""
    ours = installed("deblur")
    for requirement in (ours and ours.requires) or []:
        found = re.match(rf"{re.escape(package)}\b(?!-).*extra == \W(\w+)\W", requirement)
        if found:
            return f"; pip install -e '.[{found[1]}]' installs it"
    return ""


def _classes(module: Any) -> list[str]:
    return [name for name in dir(module) if isinstance(getattr(module, name), type)]


def _build_nested(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, path)
        return {key: _build_nested(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_build_nested(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return value


def takes_any_key(cls: type) -> bool:
    """Whether only the constructor itself can tell its keys: another library's, with `**kwargs`."""
    if cls.__module__.split(".")[0] == "deblur":
        return False
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls).parameters.values())


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Keyword parameters of a class by name; those that it passes on to its base classes included."""
    if cls.__init__ is object.__init__ and cls.__new__ is not object.__new__:
        return dict(inspect.signature(cls).parameters)
    parameters: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = [p for name, p in inspect.signature(base.__init__).parameters.items() if name != "self"]
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                parameters.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return parameters


def _check_keys(cls: type, settings: dict[str, Any], arguments: dict[str, Any], path: str) -> None:
    parameters = constructor_parameters(cls)
    own = [name for name in parameters if name not in arguments]
    for key, value in settings.items():
        if key not in own and takes_any_key(cls):
            continue
        if key not in own:
            raise UsageError(
                f"{path}.{key}={shown(value)}: no such key{nearest(key, own)}; {path} ({cls.__name__}) takes "
                + (", ".join(own) or "none")
            )
        _check_kind(cls, parameters[key], value, f"{path}.{key}")
    missing = [name for name in own if parameters[name].default is inspect.Parameter.empty and name not in settings]
    if missing:
        raise UsageError(f"{path}.{missing[0]}: missing; {cls.__name__} needs it")


def _check_kind(cls: type, parameter: inspect.Parameter, value: Any, path: str) -> None:
    """Other libraries' constructors rarely check: hold their arguments to the kind of their default."""
    default = parameter.default
    if cls.__module__.split(".")[0] == "deblur" or value is None:
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{path}={shown(value)}: must be true or false")
    elif isinstance(default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UsageError(f"{path}={shown(value)}: must be a number")
    elif isinstance(default, int | float) and not abs(value) < float("inf"):
        raise UsageError(f"{path}={shown(value)}: must be a finite number")


def settings_text(settings: Mapping[str, Any]) -> str:
    """`key=value key=value`, as the user would type them."""
    return " ".join(f"{key}={shown(value)}" for key, value in settings.items())
