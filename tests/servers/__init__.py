"""Real servers that the integration tests run against, each with its own starter."""
