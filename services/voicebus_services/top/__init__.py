"""`voicebus top`: the cluster in a terminal, read from Redis alone.

`recent` is what the last minute's events say, `cluster` what there is now, `screen` how both look.
"""
