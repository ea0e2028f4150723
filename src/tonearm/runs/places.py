"""The names of what a destination holds, each in one place; see ``destination`` for what is where."""

# What tells tracks apart, in rows, listings and Ray Data's marks.
KEY = "track_key"

MANIFEST = "manifest"
TRACKS = "tracks"
RUNS = "runs"
REPORT = "report.html"
CHECKPOINT = "_checkpoint"

# In CHECKPOINT.
GROUPS = "groups.json"
LOCK = "lock.json"
TERMS = "terms"
PROBE = "may-delete"
PROGRESS = "progress.json"
PLAN = "plan.json"
TODO = "todo"
COMPACTION = "compaction"
