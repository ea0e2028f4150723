"""Bytes at a URL, whatever the store; knows nothing of tracks.

``filesystems`` locates, lists, reads and writes, ``atomic`` whole or not at all; ``instances`` are fsspec's.
``uris`` has the forms in which a place is written down.
``http_objects`` reads over HTTP, ``content_coding`` undoes its codings; ``download`` copies folders to this machine.
``store_errors`` says what an error of a store means; ``allowed_uris`` which URIs a server reads for strangers.
"""
