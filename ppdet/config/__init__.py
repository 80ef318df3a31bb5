"""From YAML files to a checked, frozen description of an experiment."""

from ppdet.config.spec import Derived, Shared, Spec

__all__ = ["Derived", "Shared", "Spec"]
