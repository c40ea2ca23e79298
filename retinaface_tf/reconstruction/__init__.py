"""The branch of arXiv 1905.00641: graph convolutions, mesh decoder, differentiable renderer, L_pixel."""
