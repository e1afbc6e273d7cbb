"""Conditions in the notation of other tools → the same condition in ours, for hints in messages."""

from engine.rules.dialects.tokens import scalar
from engine.rules.dialects.translate import Translation, translate, translate_path
from engine.rules.dialects.words import misspelt, operator_of
from engine.rules.dialects.write import in_yaml

__all__ = ["Translation", "in_yaml", "misspelt", "operator_of", "scalar", "translate", "translate_path"]
