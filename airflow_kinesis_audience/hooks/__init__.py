"""Connections to what is outside: warehouses, streams, and files on object storage."""
