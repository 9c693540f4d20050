"""The small trainer, which proves that what was built is what a model sees.

Read in this order, each in one sitting:

1. `data`: dataset (a sample by its position), sampler (the order index), collator (masking, shifting, packing).
   Everything is a function of step and sample, so there is nothing to save but the number of the next step.
2. `attention`, `model`: one ModernBERT-shaped transformer; `causal` makes it a decoder.
3. `content`, `checks`: take each batch apart again and compare it with the order law and the hashes of the build.
4. `phases`, `prepare`: Ettin's three phases, and a built phase opened for training.
5. `config`, `loop`, `state`, `world`: steps, checkpoints, processes. `verdict`: what was found.
6. `small`: all of it for both kinds of model, as `make demo` and `pipelines/train.py` run it.
"""

from ettin_data.base.extras import need

need("torch", "the trainer")
