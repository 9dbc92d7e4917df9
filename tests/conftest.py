"""What holds for every test: small tensors on one thread, as the console command runs them."""

import torch

torch.set_num_threads(1)
