"""The networks of the papers, their presets, and loaders of their authors' checkpoints."""
