"""Functions of users' own modules by name: "module:name", so that a missing module can be named."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from retinaface_tf.errors import ConfigError, RetinaFaceError

# Names, apart by spaces, of modules that every command imports.
IMPORTS = "RETINAFACE_TF_IMPORT"


def register(known: dict[str, Any], what: str, name: str, function: Callable[..., Any]) -> None:
    """Adds a function to a table; the same one again, as when a notebook's cell runs twice, replaces itself.

    Args:
        known: the table.
        what: is registered, for messages.

    Raises:
        ConfigError: the name is taken, or is not "module:name".
    """
    if not all(name.partition(":")):
        raise ConfigError(
            f"The name {name!r} of a {what} must be 'module:name', with the module that registers it."
        )
    old = known.get(name)
    if old is not None and _origin(old) != _origin(function):
        raise ConfigError(
            f"There is a {what} {name!r} already, {_origin(old)}; choose another name."
        )
    known[name] = function


def unregistered(what: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that a table lacks; nothing is imported because a file names it."""
    module = name.rpartition(":")[0]
    if module:
        return ConfigError(
            f"The {what} {name!r} is registered by the module {module!r}, which was not imported: "
            f"import it first, on a command line with `retinaface-tf --import {module} ...`."
        )
    return ConfigError(f"{name!r} is not a {what}; choose one of {', '.join(known)}.")


def import_modules(names: Iterable[str]) -> None:
    """Imports a user's modules, here and in the commands that this process starts; see `import_module`."""
    for name in names:
        import_module(name)
        known = os.environ.get(IMPORTS, "").split()
        if name not in known:
            os.environ[IMPORTS] = " ".join([*known, name])


def import_module(name: str) -> None:
    """Imports a user's module, which registers things: by its name, also in the working folder, or a file.

    Raises:
        ConfigError: it cannot be imported.
    """
    place, module = (Path(name).parent, Path(name).stem) if name.endswith(".py") else (".", name)
    sys.path.insert(0, str(Path(place).resolve()))
    try:
        importlib.import_module(module)
    except RetinaFaceError:
        raise
    except Exception as error:  # whatever the module does
        raise ConfigError(f"--import {name} failed: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.pop(0)


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"
