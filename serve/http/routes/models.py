"""Routes that list the models and report whether they answer."""

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
        """List the models that a session may use, and the refinements of each."""

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
        """Return 200 if the process answers."""
        return protocol.Status()

    @app.get("/v1/health/ready", responses=problems("not_ready", "unavailable"))
    async def ready() -> protocol.Status:
        """Return 200 if every model answers, 503 before its first click and while clicks fail or stall."""
        for name in fleet.names:
            info = await run_in_threadpool(fleet.info, name)
            if not info.ready:
                reason = "is warming up, or a click stalls" if info.healthy else "fails, or its clicks do not finish"
                raise Problem("not_ready", f"the model {name} {reason}", retry_after_s=5)
        return protocol.Status()

    @app.get("/v1/health", responses=problems("unavailable"))
    async def health() -> protocol.Health:
        """Return the default model, and the number of open sessions."""

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
