"""The hyperspherical product-space VAE of the paper, as commands: train, tables, gradients, report, demo."""
