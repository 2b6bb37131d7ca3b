"""What a client needs to know of the service before it sends anything, and of itself."""

from __future__ import annotations

from starlette.responses import JSONResponse

import jettyctl
from jettyctl.server.control.auth import PlaneDep, Reader
from jettyctl.server.control.bodies import Service
from jettyctl.server.control.limiter import limited
from jettyctl.server.control.strict import api_router

SMALLEST_CLONE = 4 << 20  # bytes: smaller content is sent sooner than it is proven

router = api_router()


@router.get("/service", response_model=Service, dependencies=[limited("uploads")])
async def service(plane: PlaneDep, who: Reader) -> JSONResponse:
    """Who the key is, and what the store behind the service can do."""
    objects, settings = plane.objects, plane.settings
    limits = objects.limits
    return JSONResponse(
        {
            "userId": who.user_id,
            "tenantId": who.tenant_id,
            "scopes": sorted(who.scopes),
            "version": jettyctl.__version__,
            "store": {
                "kind": objects.kind,
                "checksum": await objects.settled(),
                "limits": {
                    "maxParts": limits.max_parts,
                    "minPart": limits.min_part,
                    "maxPart": limits.max_part,
                    "maxObject": limits.max_object,
                    "maxKeyBytes": limits.max_key_bytes,
                },
            },
            "dedup": {"scope": settings.dedup_scope, "smallest": SMALLEST_CLONE},
            "leaseSeconds": settings.lease_seconds,
        }
    )
