"""Verifies a batch order: `jhu-clsp/ettin-data-order` against the data that it was made from, or yours against yours.

    python pipelines/verify_order.py --data runs/demo/decay/train --published exported/
    python pipelines/verify_order.py --data /data/ettin-decay-data/train --phase decay --max-seq-len 7999 \
        --published hf://datasets/jhu-clsp/ettin-data-order --sample 1%
    python pipelines/verify_order.py --help

Published data are gated: accept their terms on the hub and set HF_TOKEN. What was not downloaded is named as unchecked.
Exit status: 0 all of it agrees, 1 it differs or follows another law, 2 it cannot be compared, 3 it agrees as far as it
was checked (--sample) or could be (a partial download).
"""

import sys

from ettin_data.cli.main import main

if __name__ == "__main__":
    sys.argv[1:1] = ["order", "verify"]
    main()
