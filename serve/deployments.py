"""The import path of the application for `serve run` and `serve deploy`: serve.deployments:build_app."""

from serve.on_ray.app import build_app

__all__ = ["build_app"]
