"""The name by which `serve run` and `serve deploy` find the application: serve.deployments:build_app."""

from serve.on_ray.app import build_app

__all__ = ["build_app"]
