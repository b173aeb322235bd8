"""Is a data set fit for training? Reads every file once and judges what it finds."""
