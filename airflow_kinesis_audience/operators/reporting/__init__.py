"""What a task reports besides its summary: asset events, lineage and metrics."""
