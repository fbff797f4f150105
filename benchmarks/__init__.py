"""Frame rate, accuracy, and the papers' figures beside ours."""
