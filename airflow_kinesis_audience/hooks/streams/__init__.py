"""What the hooks of Kinesis data streams and Firehose share: requests, responses and permissions."""
