"""People's listener: a JSON API over the store and the live configuration."""
