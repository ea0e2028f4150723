"""Fine-tuning on Ray Train: ``driver`` decides without Ray, ``execution`` runs the loop on workers and listens.

A ``worker`` is one process of ``process_group``, and tells the driver by ``worker_events``.
"""
