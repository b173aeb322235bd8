"""The feature cache: what a frozen backbone says of whole images, computed once, on disk."""
