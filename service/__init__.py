"""Live, for hours, unattended: the tracking loop, its outputs and its controls."""
