"""The hyperspherical product-space VAE of the paper, as commands: train, demo, tables, report."""
