//! Fetches by hash; later recipe, lock, image, manifest.
