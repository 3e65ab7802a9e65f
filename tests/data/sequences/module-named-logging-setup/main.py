import logging_setup

def run(context, input):
    print(logging_setup.WHOSE)
