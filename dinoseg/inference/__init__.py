"""From images to scores and label maps: windows, test-time augmentation, the predictor."""
