WHOSE = "the package's"
