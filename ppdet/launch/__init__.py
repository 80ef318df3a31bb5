"""Starts one training on many machines, with Paddle's own launcher on each, and ends it on all of them.

The machine that the master's address belongs to is the first node. Every node joins it (`node`), says what
it would run and on which data (`facts`), and is told whether all agree (`coordinator`). Then each starts
Paddle's launcher (`workers`), and all watch each other until the last has ended.
"""
