from .clean import clean

def shout(text):
    return clean(text).upper() + "!"
