class Session:
    whose = "the author's"
