"""Commands under test write to a temporary folder."""

from tests.elsewhere import mlflow_uri, nothing_in_the_checkout

__all__ = ["mlflow_uri", "nothing_in_the_checkout"]
