import logging

from elsewhere import work

def run(context, input):
    logging.getLogger("PythonRunner").info("mine")
    work(context.logger)
