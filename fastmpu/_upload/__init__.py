"""One object, fast: plan, map, hash, send, complete, prove. All of fastmpu's threads are started in here.

Nothing is imported here: a worker process needs few of these modules, and each that it does not import is CPU
time saved before its first byte.
"""
