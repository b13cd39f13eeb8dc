"""Which models there are, and whether they answer."""

from fastapi.concurrency import run_in_threadpool

from serve.core.problems import Problem
from serve.http.openapi import problems
from serve.http.routes.context import Context
from serve.wire import protocol


def add_models(context: Context) -> None:
    """Add GET /v1/models, /v1/health, /v1/health/live, /v1/health/ready."""
    app, fleet, store = context.app, context.fleet, context.store

    @app.get("/v1/models", responses=problems("unavailable"))
    async def models() -> protocol.Models:
        """The models that a session may name, with the refinements that each allows."""

        def look() -> protocol.Models:
            found: list[protocol.ModelBody] = []
            for name in fleet.names:
                info = fleet.info(name)
                found.append(
                    protocol.ModelBody(
                        name=name,
                        network=info.network,
                        refinement=info.refinement,
                        model_version=info.model_version,
                        mask_threshold=info.mask_threshold,
                        refinements=list(info.refinements),
                        takes_exemplar=info.takes_exemplar,
                        default=name == fleet.default,
                    )
                )
            return protocol.Models(models=found)

        return await run_in_threadpool(look)

    @app.get("/v1/health/live", responses=problems())
    async def live() -> protocol.Status:
        """The process answers."""
        return protocol.Status()

    @app.get("/v1/health/ready", responses=problems("not_ready", "unavailable"))
    async def ready() -> protocol.Status:
        """Every model answers: its first click is made, and the last ones did not all fail."""
        for name in fleet.names:
            info = await run_in_threadpool(fleet.info, name)
            if not info.ready:
                reason = "is warming up, or a click stalls" if info.healthy else "fails or does not end"
                raise Problem("not_ready", f"the network of {name} {reason}", retry_after_s=5)
        return protocol.Status()

    @app.get("/v1/health", responses=problems("unavailable"))
    async def health() -> protocol.Health:
        """Which model runs by default, and how many sessions are open."""

        def look() -> protocol.Health:
            info = fleet.info()
            return protocol.Health(
                status="ok" if info.healthy else "unwell",
                model_version=info.model_version,
                network=info.network,
                refinement=info.refinement,
                sessions=len(store),
            )

        return await run_in_threadpool(look)
