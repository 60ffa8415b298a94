"""At-least-once delivery: in order per key, within each shard's rate limit, only failed records put again."""
