"""The commands of ``hub-lite``: one that starts a hub, and those that operate one."""
