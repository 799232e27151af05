"""The coordinator's side."""

from coordinator.server_app import app

__all__ = ["app"]
