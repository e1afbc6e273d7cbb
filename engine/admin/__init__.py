"""People's listener: a JSON API over the store and the live configuration."""

from engine.admin.listener import Admin, admin_app

__all__ = ["Admin", "admin_app"]
