"""Fine-tune a classifier as a Ray job.

ray job submit --working-dir . -- python jobs/finetune.py s3://bucket/labelled --out s3://bucket/model
"""

import sys

from tonearm.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
