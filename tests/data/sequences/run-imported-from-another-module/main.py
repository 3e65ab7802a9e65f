from shouting import run
