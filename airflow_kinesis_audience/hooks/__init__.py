"""The doors to the world outside: warehouses and streams."""
