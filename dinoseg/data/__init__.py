"""From files on disk to class index maps: pairing, reading, transforming, drawing samples."""
