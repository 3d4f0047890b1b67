"""The hyperspherical product-space VAE of the paper, as commands: train, demo, table2, report."""
