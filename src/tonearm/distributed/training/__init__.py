"""Fine-tuning on Ray Train: ``driver`` on one side, a ``worker`` for each process on the other."""
