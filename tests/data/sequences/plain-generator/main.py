import subprocess
import sys

def run(context, input):
    yield "before "
    yield subprocess.run([sys.executable, "-c", "print('child')"], stdout=subprocess.PIPE, check=True).stdout
    yield "after"
