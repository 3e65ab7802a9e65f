import click

def run(context, input):
    print(click.WHOSE)
