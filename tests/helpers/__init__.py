"""What several tests use: tiny data sets, runs to report on, a model that is told the truth."""
