"""Where sharp images come from, and the LightningDataModules that pair them with blurred ones."""
