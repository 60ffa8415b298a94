"""Connections to warehouses: one file per engine, and the DB-API connection that they share."""
