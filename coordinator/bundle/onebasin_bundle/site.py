"""The site's side."""

from client.client_app import app

__all__ = ["app"]
