"""What a request passes before it is answered: ``entrance``, ``admission``, ``keys``, and the readers of bodies."""
