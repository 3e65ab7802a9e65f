import tools
from steps.clean import clean
from steps import shout

def run(context, input):
    return input.map(clean).map(shout.shout).map(tools.with_line_end)
