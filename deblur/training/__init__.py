"""The LightningModule, what trains it, and the run folder."""
