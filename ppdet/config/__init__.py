"""From YAML files to a checked, frozen description of an experiment."""

from ppdet.config.errors import ConfigError, Place, Problem
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.config.table import register

__all__ = ["ConfigError", "Derived", "Place", "Problem", "Shared", "Spec", "register"]
