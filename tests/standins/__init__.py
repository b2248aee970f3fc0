"""Chat platforms on this host that hold the real ones' clients to the real ones' limits.

Each is a server of the platform's HTTP API, as far as an answering bot uses it; a test
reads in it what the people in a chat would see.
"""
