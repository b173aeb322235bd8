"""Pictures of images and class maps."""
