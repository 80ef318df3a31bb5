"""From YAML files to a checked, frozen description of an experiment."""

from ppdet.config.errors import ArgumentError, ConfigError, Place, Problem
from ppdet.config.registry import register
from ppdet.config.spec import Common, Derived, Shared, Spec

__all__ = [
    "ArgumentError",
    "Common",
    "ConfigError",
    "Derived",
    "Place",
    "Problem",
    "Shared",
    "Spec",
    "register",
]
