"""A stand-in for LangSmith's API, as its SDK uses it."""
