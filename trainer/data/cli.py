"""`ablate data`: pack, check and show image-text pairs."""
