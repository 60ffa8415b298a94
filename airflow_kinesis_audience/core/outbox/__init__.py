"""What each destination still has to get: deliveries, attempts, dead letters, resyncs and deletions."""
