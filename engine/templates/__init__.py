"""Sandboxed Jinja over parameter trees, and single expressions."""

from engine.templates.template import Expression, Template, Templates, is_template

__all__ = ["Expression", "Template", "Templates", "is_template"]
