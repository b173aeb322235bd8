"""What stands after ``dinoseg``: the verbs with their arguments and options, and no logic.

Heavy imports stand inside the verbs, so that ``--help`` answers at once.
"""
