"""Rendered scenes and the training of the placeholder tracker."""
