"""Which names a configuration may use: ours, and the user's own from ``plugins:``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
import typing
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional

from ppdet.config.components import COMPONENTS
from ppdet.config.errors import ConfigError, Place, Problem, suggestion
from ppdet.config.schema import schema_of

Component = Callable[..., Any]

#: Attribute of a registered class that holds its YAML name.
_MARK = "__ppdet_name__"
#: Registered outside of any plugin (a script, a notebook): every configuration of this process sees them.
_OF_PROCESS: dict[str, Component] = {}
#: What the plugins that are being imported have registered so far, the innermost last.
_COLLECTING: list[dict[str, Component]] = []
#: What each imported plugin registered, by the name of its module.
_OF_PLUGIN: dict[str, dict[str, Component]] = {}


def register(component: Optional[Component] = None, *, name: str = "") -> Any:
    """Let a YAML use a class of your own: ``@register``, or ``@register(name="MyNet")``.

    Args:
        component: The class (or a function that makes the component).
        name: Its name in a YAML; that of the class if not given.

    Returns:
        The class itself, or without `component` the decorator that does.

    Raises:
        ConfigError: If the name is taken, or its constructor's signature is no schema.
    """
    if component is None:
        return lambda late: _register(late, name or late.__name__)
    return _register(component, component.__name__)


def _register(component: Component, name: str) -> Component:
    place = Place(getattr(inspect.getmodule(component), "__file__", None) or component.__module__)
    if name in COMPONENTS:
        owner = COMPONENTS[name]
        raise ConfigError(
            [Problem(place, f"@register: {name} is a component of ppdet ({owner}); choose another name")]
        )
    registered = _COLLECTING[-1] if _COLLECTING else _OF_PROCESS
    other = registered.get(name)
    # The same class again is a notebook cell that was run twice.
    if other is not None and (other.__module__, other.__qualname__) != (
        component.__module__,
        component.__qualname__,
    ):
        raise ConfigError([Problem(place, f"@register: {name} is registered already, by {other.__module__}")])
    schema_of(component)
    setattr(component, _MARK, name)
    registered[name] = component
    return component


def yaml_name(component: Component) -> str:
    """The name that a component has in a YAML."""
    own = vars(component).get(_MARK)
    if own is not None:
        return str(own)
    where = f"{component.__module__}:{component.__qualname__}"
    return next((name for name, target in COMPONENTS.items() if target == where), component.__name__)


class Table:
    """The names that one configuration may use.

    Args:
        own: The user's components by name, as `import_plugins` returns them.
    """

    def __init__(self, own: Optional[Mapping[str, Component]] = None) -> None:
        self._own = {**_OF_PROCESS, **(own or {})}

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in COMPONENTS

    @property
    def names(self) -> list[str]:
        """All names."""
        return sorted({*COMPONENTS, *self._own})

    def get(self, name: str) -> Component:
        """Import a component.

        Raises:
            KeyError: If there is no such name.
        """
        if name in self._own:
            return self._own[name]
        module, _, attribute = COMPONENTS[name].partition(":")
        component: Component = getattr(importlib.import_module(module), attribute)
        return component

    def holds(self, component: Component) -> bool:
        """Whether a class is itself in the table, not only some that derive from it."""
        name = yaml_name(component)
        return name in self and self.get(name) is component

    def fitting(self, base: Any) -> list[str]:
        """Names of the components that are a `base`."""
        return [name for name in self.names if fits(self.get(name), base)]


def fits(component: Component, base: Any) -> bool:
    """Whether a component may stand where ``Spec[base]`` is expected.

    Of a function, the annotation of what it returns decides; without one it may stand anywhere.
    """
    made = component if inspect.isclass(component) else typing.get_type_hints(component).get("return")
    if not inspect.isclass(made) or not inspect.isclass(base):
        return True
    return issubclass(made, base)


def import_plugins(
    entries: list[tuple[str, Place]], problems: list[Problem], *, run: bool = True
) -> dict[str, Component]:
    """Import what ``plugins:`` lists. This runs the code in it, once per process.

    Args:
        entries: ``path/to/file.py``, relative to the YAML that names it, or ``package.module``; each with
            its place.
        problems: Receives the plugins that cannot be imported, with file and line of the fault.
        run: Whether code may be run. Without it, plugins that this process has not imported are a problem.

    Returns:
        The components they register, by name.
    """
    found: dict[str, Component] = {}
    for entry, place in entries:
        try:
            registered = _import(entry, place, run=run)
        except ConfigError as error:
            problems += error.problems
            continue
        except Exception as error:  # whatever a user's code may raise
            problems.append(Problem(place, f"plugin {entry} failed: {_last_frame(error, entry)}"))
            continue
        for name, component in registered.items():
            other = found.setdefault(name, component)
            if other is not component:
                where = f"{other.__module__} and {component.__module__}"
                problems.append(Problem(place, f"two plugins register {name}: {where}"))
    return found


def plugin_path(entry: str, place: Place) -> str:
    """A plugin's file independent of where it is named; a module as it is."""
    if not entry.endswith(".py"):
        return entry
    return str((Path(place.file).parent / Path(entry).expanduser()).resolve())


def _import(entry: str, place: Place, *, run: bool) -> dict[str, Component]:
    if entry.endswith(".py"):
        path = Path(plugin_path(entry, place))
        if not path.is_file():
            raise ConfigError([Problem(place, f"no such plugin: {path}" + _others(path))])
        # One module per file and content: an edited file is read again, an unchanged one is not.
        digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]
        name = f"ppdet_plugin_{path.stem}_{digest}"
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None and found.loader is not None
        load: Callable[[], ModuleType] = lambda: _run(importlib.util.module_from_spec(found))  # noqa: E731
    else:
        name = entry

        def load() -> ModuleType:
            return importlib.import_module(entry)

    if name not in _OF_PLUGIN:
        if not run and name not in sys.modules:
            message = f"plugin {entry} is not imported: loading weights runs no code. If you trust it, "
            raise ConfigError([Problem(place, message + "name the config that lists it, too (config=, -c)")])
        _COLLECTING.append({})
        try:
            module = sys.modules[name] if name in sys.modules else load()
        finally:
            collected = _COLLECTING.pop()
        # What it only imports from a file that another plugin imported before is its own, too.
        for value in list(vars(module).values()):
            mark = vars(value).get(_MARK) if inspect.isclass(value) or inspect.isfunction(value) else None
            if mark is not None:
                collected.setdefault(mark, value)
        _OF_PLUGIN[name] = collected
    return _OF_PLUGIN[name]


def _run(module: ModuleType) -> ModuleType:
    sys.modules[module.__name__] = module
    try:
        assert module.__spec__ is not None and module.__spec__.loader is not None
        module.__spec__.loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _others(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
    return suggestion(path.name, names, "there are")


def _last_frame(error: Exception, entry: str) -> str:
    """``file:line: Type: message`` of the innermost line in the plugin itself."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    stem = Path(entry).stem if entry.endswith(".py") else entry.rpartition(".")[2]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).stem == stem]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {text}" if frames else text
