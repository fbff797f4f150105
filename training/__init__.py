"""Training: pairs from annotated images and videos, and the loop; rendered scenes."""
