"""Sandboxed Jinja over parameter trees, and single expressions."""

from engine.rules.templates.template import Expression, Template, Templates, is_template

__all__ = ["Expression", "Template", "Templates", "is_template"]
