"""Every contract test sees the two warehouses."""

from tests.warehouses import reopen, warehouse

__all__ = ["reopen", "warehouse"]
