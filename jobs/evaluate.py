"""Judge a model on labelled audio as a Ray job.

ray job submit --working-dir . -- python jobs/evaluate.py s3://bucket/model s3://bucket/labelled --out s3://bucket/figures
"""

import sys

from tonearm.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
