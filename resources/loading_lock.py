"""One model is built at a time in a process.

While a model's weights are read, accelerate and transformers replace methods of torch.nn.Module and functions of
torch.nn.init for the whole process, and put them back afterwards. A model that another thread builds meanwhile is left
without its weights ("Cannot copy out of meta tensor"), and where two loads end in another order than they began, so is
every model after them.
"""

from __future__ import annotations

import threading

LOADING = threading.RLock()
"""Held by whoever builds a model or reads its weights."""
