import brought
from brought.inside import word

def run(context, input):
    print(brought.VERSION, word())
