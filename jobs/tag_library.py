"""Tag a library as a Ray job.

ray job submit --working-dir . -- python jobs/tag_library.py s3://bucket/music --out s3://bucket/tags
"""

import sys

from tonearm.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "tag")
    main()
