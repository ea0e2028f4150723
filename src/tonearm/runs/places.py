"""The names of files and folders in a destination, each defined once; see ``destination`` for the layout."""

# The column that identifies a track, in rows, listings and Ray Data's marks.
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
