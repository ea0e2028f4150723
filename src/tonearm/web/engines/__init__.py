"""What decodes and scores behind the routes: ``engine`` is the contract, ``process_engine`` the one without Ray.

A ``pipeline`` goes from bytes to a result by a ``scorer`` for each head, whose ``batching`` joins windows of requests.
"""
