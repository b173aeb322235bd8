"""From files on disk to class index maps: pairing, reading, scanning, checking, transforming."""
