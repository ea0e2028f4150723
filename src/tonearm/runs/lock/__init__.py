"""The lock of a destination: ``run_lock`` acquires it, ``hold`` keeps it, ``lock_file`` reads and writes its files."""
