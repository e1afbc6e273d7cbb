"""JSONPath with jsonpath-ng's grammar and results, compiled once."""

from engine.rules.jsonpath.path import MAX_LENGTH, NOTHING, Path, Paths, compile_path

__all__ = ["MAX_LENGTH", "NOTHING", "Path", "Paths", "compile_path"]
