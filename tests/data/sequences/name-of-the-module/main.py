import pickle
import sys

class Box:
    def __init__(self, content):
        self.content = content

def run(context, input):
    assert sys.modules["sequence"].Box is Box
    return input.map(lambda line: pickle.loads(pickle.dumps(Box(line))).content)
