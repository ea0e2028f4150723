"""The HTTP face: ``app`` has the routes, ``listener`` the connections, ``engines`` what decodes and scores. No Ray.

``requests`` is who may ask and how bodies are read; ``messages`` what travels; ``error_responses`` errors as answers.
"""
