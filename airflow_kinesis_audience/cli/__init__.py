"""What a person at a terminal can ask: the demo, a plan, the state, a stream read, and what others need printed.

A command looks and never changes anything, the demo's own directory aside. User ids and values are masked unless
the person asks for them. Nothing else of the package imports from here.
"""
