"""Training on several hosts: who takes part, how each worker is started, and what if one ends.

Nothing here imports TensorFlow: the launcher also runs where only the hosts can train.
"""
