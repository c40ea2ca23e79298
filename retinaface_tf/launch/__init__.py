"""Training on several hosts: the hosts, the command of each worker, and what happens when one ends.

Nothing here imports TensorFlow: the launcher may run on a machine that cannot train.
"""
