"""``python -m hub_lite``."""

from .cli import main

main()
