"""What an author of Sequences imports."""
