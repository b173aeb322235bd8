"""From a data set, a machine and a budget to a recipe, each choice with its reason."""
