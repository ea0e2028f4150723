"""One writer at a time: ``run_lock`` takes the lock, ``hold`` keeps it, ``lock_file`` is what it is made of."""
