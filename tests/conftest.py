"""Two test processes share two cores: torch's own threads on top of that only wait for each other."""

import torch

torch.set_num_threads(1)
