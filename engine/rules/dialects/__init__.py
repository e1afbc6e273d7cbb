"""Conditions as other tools write them → the same condition in our language, for the hints of messages."""

from engine.rules.dialects.translate import Translation, translate, translate_path
from engine.rules.dialects.words import misspelt, operator_of

__all__ = ["Translation", "misspelt", "operator_of", "translate", "translate_path"]
