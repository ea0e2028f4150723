from tonearm.library.run_summary import (
    MachineFacts,
    ManifestCounts,
    ModelFacts,
    ResultCounts,
    RunSummary,
    SpeedFacts,
    read_run,
    write_run,
)

__all__ = ["MachineFacts", "ManifestCounts", "ModelFacts", "ResultCounts", "RunSummary", "SpeedFacts", "read_run", "write_run"]
