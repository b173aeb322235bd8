"""What ``import dinoseg`` offers beside the command line: training, evaluation and runs as objects."""
