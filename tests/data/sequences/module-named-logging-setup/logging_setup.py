WHOSE = "the author's"
