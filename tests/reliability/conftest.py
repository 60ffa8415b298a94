"""Every contract test sees the two warehouses."""

from tests.warehouses import duckdb_in_memory, reopen, warehouse

__all__ = ["duckdb_in_memory", "reopen", "warehouse"]
