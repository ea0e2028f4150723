"""All that imports Ray: ``cluster`` joins or starts it; ``tagging``, ``training`` and ``serving`` run on it."""
