import subprocess
import sys

def run(context, input):
    done = subprocess.run([sys.executable, "-c", "print(6 * 7)"], stdout=subprocess.PIPE, check=True)
    print(done.stdout.decode().strip())
