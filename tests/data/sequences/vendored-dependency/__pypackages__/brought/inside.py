import pkgutil

def word():
    return pkgutil.get_data("brought", "word.txt").decode().strip()
