"""The outside of the hub: processes, folders. Named only by app.py."""
